//! The scales that uncertainty weighting learns beside the network.

use anyhow::Result;
use models::diffusion::losses::LOG_VARIANCES_RATE;
use tch::{Device, Kind, Tensor};
use torch::flat::{self, AdamMoments};
use torch::shim::AdamW;

/// The learned log variances of uncertainty weighting, with their own moments and learning rate.
pub(crate) struct LogVariances {
    pub values: Tensor,
    moments: AdamMoments,
}

impl LogVariances {
    pub fn fresh(count: i64, device: Device) -> Self {
        let zeros = || Tensor::zeros([count], (Kind::Float, device));
        let moments = AdamMoments { first: zeros(), second: zeros() };
        Self { values: zeros().set_requires_grad(true), moments }
    }

    /// Their tensors in a checkpoint, under `uw.`.
    pub fn parts(&self) -> [(String, Tensor); 3] {
        let AdamMoments { first, second } = &self.moments;
        [("scales", &self.values.detach()), ("first", first), ("second", second)]
            .map(|(name, tensor)| (name.to_string(), tensor.shallow_clone()))
    }

    /// Moves them along their gradients, in step `step`.
    pub fn update(&self, step: usize) -> Result<()> {
        let adam = AdamW { learning_rate: LOG_VARIANCES_RATE, ..AdamW::default() };
        let one = |tensor: &Tensor| [tensor.shallow_clone()];
        let AdamMoments { first, second } = &self.moments;
        let count = flat::count(step, self.values.device())?;
        adam.step(&one(&self.values.detach()), &one(&self.values.grad()), &one(first), &one(second), &count)?;
        Ok(())
    }
}

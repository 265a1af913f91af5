//! One step of the chain.

use anyhow::Result;
use models::diffusion::{Coefficients, Diffusion};
use models::{Network, Timesteps};
use tch::Tensor;
use torch::Precision;

/// What a step needs that does not depend on the picture.
pub struct Step {
    /// Which network.
    pub(crate) network: usize,
    /// What depends on the timestep alone.
    pub(crate) timesteps: Timesteps,
    /// The schedule's coefficients.
    pub(crate) at: Coefficients,
}

impl Step {
    /// The same in tensors of their own.
    pub fn fixed(&self) -> Self {
        let Self { network, timesteps, at } = self;
        Self { network: *network, timesteps: timesteps.fixed(), at: at.fixed() }
    }

    /// Takes another step's values.
    pub fn fill(&mut self, other: &Self) {
        self.timesteps.fill(&other.timesteps);
        self.at.fill(&other.at);
    }
}

/// How x comes from the x after it.
pub struct Link<'a> {
    pub(crate) network: &'a Network,
    pub(crate) diffusion: &'a Diffusion,
    pub(crate) guidance: f64,
    pub(crate) precision: Precision,
}

impl Link<'_> {
    /// # Shapes
    /// `x` and `noise`, which the last step does not take, `[B, C, S, S]`, `labels` `[B]`, to `[B, C, S, S]`.
    ///
    /// # Errors
    /// When libtorch refuses the precision.
    pub fn step(&self, x: &Tensor, labels: &Tensor, step: &Step, noise: Option<&Tensor>) -> Result<Tensor> {
        let Step { timesteps, at, .. } = step;
        let evaluate = || self.network.guided(x, timesteps, labels, self.guidance);
        let output = self.precision.run(self.network.device(), evaluate)?;
        let guess = self.diffusion.predict(at, x, &output, false);
        Ok(match noise {
            Some(noise) => self.diffusion.ddpm(at, &guess, noise),
            None => guess.mean,
        })
    }
}

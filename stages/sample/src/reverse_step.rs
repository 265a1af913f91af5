//! One step of the chain: how x comes from the x after it.

use anyhow::Result;
use models::diffusion::{Coefficients, Diffusion};
use models::{Network, Timesteps};
use tch::Tensor;
use torch::Precision;

/// What a step needs that does not depend on the picture.
pub struct Step {
    /// Which network.
    pub network: usize,
    /// What depends on the timestep alone.
    pub timesteps: Timesteps,
    /// The schedule's coefficients.
    pub at: Coefficients,
}

impl Step {
    /// The same in tensors of their own.
    pub fn copy(&self) -> Self {
        let Self { network, timesteps, at } = self;
        Self { network: *network, timesteps: timesteps.copy(), at: at.copy() }
    }

    /// Takes another step's values.
    pub fn fill(&mut self, other: &Self) {
        self.timesteps.fill(&other.timesteps);
        self.at.fill(&other.at);
    }
}

/// How x comes from the x after it.
pub struct ReverseStep<'a> {
    /// The network of the step.
    pub network: &'a Network,
    /// The schedule.
    pub diffusion: &'a Diffusion,
    /// Guidance scale.
    pub guidance: f64,
    /// What products are computed in.
    pub precision: Precision,
}

impl ReverseStep<'_> {
    /// # Shapes
    /// `x` and `noise`, which the last step does not take, `[B, C, S, S]`, `labels` `[B]`, to `[B, C, S, S]`.
    pub fn run(&self, x: &Tensor, labels: &Tensor, step: &Step, noise: Option<&Tensor>) -> Result<Tensor> {
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

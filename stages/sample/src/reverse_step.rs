//! One step of the chain: how x comes from the x after it.

use crate::arguments::Method;
use anyhow::{Context, Result};
use models::diffusion::{Coefficients, Diffusion};
use models::{Guidance, Network, Timesteps};
use tch::Tensor;
use torch::Precision;

/// What an evaluation of a network needs that does not depend on the picture.
pub struct Evaluation {
    /// Which network.
    pub network: usize,
    /// What depends on the timestep alone.
    pub timesteps: Timesteps,
    /// Whether it is guided.
    pub guided: bool,
}

impl Evaluation {
    fn copy(&self) -> Self {
        Self { network: self.network, timesteps: self.timesteps.copy(), guided: self.guided }
    }

    fn fill(&mut self, other: &Self) {
        self.timesteps.fill(&other.timesteps);
    }
}

/// What a step needs that does not depend on the picture.
pub struct Step {
    /// At the beginning of the step.
    pub here: Evaluation,
    /// At its end, where it is corrected there.
    pub there: Option<Evaluation>,
    /// The schedule's coefficients.
    pub at: Coefficients,
    /// What a solver multiplies by, `[W, 1, 1, 1, 1]`; none where the coefficients say all.
    pub weights: Option<Tensor>,
}

impl Step {
    fn weights(&self) -> Result<&Tensor> {
        self.weights.as_ref().context("a solver's step without weights")
    }

    /// The same in tensors of their own.
    pub fn copy(&self) -> Self {
        Self {
            here: self.here.copy(),
            there: self.there.as_ref().map(Evaluation::copy),
            at: self.at.copy(),
            weights: self.weights.as_ref().map(Tensor::copy),
        }
    }

    /// Takes another step's values.
    pub fn fill(&mut self, other: &Self) {
        self.here.fill(&other.here);
        if let Some((own, other)) = self.there.as_mut().zip(other.there.as_ref()) {
            own.fill(other);
        }
        self.at.fill(&other.at);
        if let Some((own, other)) = self.weights.as_mut().zip(other.weights.as_ref()) {
            own.copy_(other);
        }
    }
}

/// What a step gives.
pub struct Stepped {
    /// The x before it.
    pub x: Tensor,
    /// The x_0 that it has predicted, where the next step wants to know it.
    pub start: Option<Tensor>,
}

/// How x comes from the x after it.
pub struct ReverseStep<'a> {
    /// The networks of all steps.
    pub networks: &'a [Network],
    /// The schedule.
    pub diffusion: &'a Diffusion,
    /// By which rule.
    pub method: Method,
    /// Noise of ddim's steps.
    pub eta: f64,
    /// Guidance of the steps that are guided.
    pub guidance: Guidance,
    /// What products are computed in.
    pub precision: Precision,
}

impl ReverseStep<'_> {
    /// One step. `noise` is for methods that draw it, and the last step takes none; `previous` is the x_0 that the step before has
    /// predicted, for methods of several steps.
    ///
    /// # Shapes
    /// All `[B, C, S, S]`, but `labels` `[B]`.
    pub fn run(
        &self,
        x: &Tensor,
        labels: &Tensor,
        step: &Step,
        noise: Option<&Tensor>,
        previous: Option<&Tensor>,
    ) -> Result<Stepped> {
        let (diffusion, at) = (self.diffusion, &step.at);
        let output = self.evaluate(&step.here, x, labels)?;
        let x = match self.method {
            Method::Ddpm => {
                let guess = diffusion.predict(at, x, &output, false);
                match noise {
                    Some(noise) => diffusion.ddpm(at, &guess, noise),
                    None => guess.mean,
                }
            }
            Method::Ddim => {
                let guess = diffusion.predict(at, x, &output, false);
                let noise = noise.map_or_else(|| x.zeros_like(), Tensor::shallow_clone);
                diffusion.ddim(at, x, &guess, self.eta, &noise)
            }
            Method::DpmSolver => {
                let start = diffusion.start(at, x, &predicted(&output));
                let weights = step.weights()?;
                let [of_x, of_start, of_previous] = [0, 1, 2].map(|i| weights.get(i));
                let mut before = x * of_x + &start * of_start;
                if let Some(previous) = previous {
                    before += previous * of_previous;
                }
                return Ok(Stepped { x: before, start: Some(start) });
            }
            Method::Euler | Method::Heun => {
                let (length, velocity) = (step.weights()?.get(0), predicted(&output));
                let before = x + &velocity * &length;
                match &step.there {
                    None => before,
                    Some(there) => {
                        let after = predicted(&self.evaluate(there, &before, labels)?);
                        x + (velocity + after) * (length * 0.5)
                    }
                }
            }
        };
        Ok(Stepped { x, start: None })
    }

    /// # Shapes
    /// `x` `[B, C, S, S]`, `labels` `[B]`, to `[B, 2C, S, S]`.
    fn evaluate(&self, at: &Evaluation, x: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let network = &self.networks[at.network];
        self.precision.run(network.device(), || match at.guided {
            true => network.guided(x, &at.timesteps, labels, self.guidance),
            false => network.forward_at(x, &at.timesteps, labels),
        })
    }
}

/// # Shapes
/// `output` `[B, 2C, S, S]` to `[B, C, S, S]`.
fn predicted(output: &Tensor) -> Tensor {
    output.narrow(1, 0, output.size()[1] / 2)
}

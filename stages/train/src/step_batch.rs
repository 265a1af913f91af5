//! What a step is given: its latents and its random numbers.

use anyhow::{Result, ensure};
use std::ops::Range;
use tch::{Device, Tensor};
use torch::transfer;

/// What one step takes besides weights: all of it a function of (seed, step), and on the host until it is needed.
pub struct StepBatch {
    /// x_0, `[B, C, S, S]`.
    pub latents: Tensor,
    /// Classes, `[B]` i64.
    pub labels: Tensor,
    /// `[B, C, S, S]`.
    pub noise: Tensor,
    /// `[B]` i64.
    pub timesteps: Tensor,
    /// Uniform numbers by which labels are hidden, `[B]`.
    pub label_dropout: Tensor,
    /// For noisy gates, `[B, L, E]`.
    pub gates: Option<Tensor>,
}

impl StepBatch {
    /// All of its tensors, by one function.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn each(&self, to: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self {
            latents: to(&self.latents)?,
            labels: to(&self.labels)?,
            noise: to(&self.noise)?,
            timesteps: to(&self.timesteps)?,
            label_dropout: to(&self.label_dropout)?,
            gates: self.gates.as_ref().map(to).transpose()?,
        })
    }

    /// The same on a device; the host does not wait for the copies.
    pub fn upload(&self, device: Device) -> Result<Self> {
        self.each(|tensor| transfer::upload(tensor, device))
    }

    /// How many images it is of.
    pub fn images(&self) -> usize {
        self.timesteps.numel()
    }

    /// One of equal parts of the batch.
    ///
    /// # Errors
    /// When there is no such part.
    pub fn part(&self, part: i64, parts: i64) -> Result<Self> {
        let size = self.timesteps.size()[0] / parts;
        self.each(|tensor| Ok(tensor.f_narrow(0, part * size, size)?))
    }

    /// Some of its rows.
    ///
    /// # Errors
    /// When it has not as many.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self> {
        self.each(|tensor| Ok(tensor.f_narrow(0, rows.start as i64, rows.len() as i64)?))
    }

    /// The same in memory of its own.
    pub fn copy(&self) -> Result<Self> {
        self.each(|tensor| Ok(tensor.copy()))
    }

    /// Takes other values of the same shapes.
    ///
    /// # Errors
    /// When the shapes are others.
    pub fn fill(&self, other: &Self) -> Result<()> {
        let tensors = |batch: &Self| {
            let Self { latents, labels, noise, timesteps, label_dropout, gates } = batch;
            let all = [latents, labels, noise, timesteps, label_dropout].into_iter().chain(gates);
            all.map(Tensor::shallow_clone).collect::<Vec<_>>()
        };
        for (mut own, other) in tensors(self).into_iter().zip(tensors(other)) {
            ensure!(own.size() == other.size(), "a batch of {:?} for {:?}", other.size(), own.size());
            own.copy_(&other);
        }
        Ok(())
    }
}

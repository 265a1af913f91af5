//! What a step is given: its latents and its random numbers, made ahead of it by a thread of their own.

use crate::Recipe;
use anyhow::{Context, Result, ensure};
use models::config::Allocation;
use shards::Loader;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use tch::{Device, Tensor};
use torch::{random, transfer};

/// Steps whose draws wait for them.
const AHEAD: usize = 2;

/// What one step takes besides weights: all of it a function of (seed, step), and on the host until it is needed.
pub struct Draws {
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

impl Draws {
    fn each(&self, to: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
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
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn upload(&self, device: Device) -> Result<Self> {
        self.each(|tensor| transfer::upload(tensor, device))
    }

    /// One of equal parts of the batch.
    ///
    /// # Errors
    /// When there is no such part.
    pub fn part(&self, part: i64, parts: i64) -> Result<Self> {
        let size = self.timesteps.size()[0] / parts;
        self.each(|tensor| Ok(tensor.f_narrow(0, part * size, size)?))
    }

    /// The same in memory of its own.
    ///
    /// # Errors
    /// When there is none left.
    pub fn copy(&self) -> Result<Self> {
        self.each(|tensor| Ok(tensor.copy()))
    }

    /// Takes other values of the same shapes.
    ///
    /// # Errors
    /// When the shapes are others.
    pub fn fill(&self, other: &Self) -> Result<()> {
        let tensors = |draws: &Self| {
            let Self { latents, labels, noise, timesteps, label_dropout, gates } = draws;
            let all = [latents, labels, noise, timesteps, label_dropout].into_iter().chain(gates);
            all.map(Tensor::shallow_clone).collect::<Vec<_>>()
        };
        for (mut own, other) in tensors(self).into_iter().zip(tensors(other)) {
            ensure!(own.size() == other.size(), "draws of {:?} for {:?}", other.size(), own.size());
            own.copy_(&other);
        }
        Ok(())
    }
}

/// Makes the draws of a process's rows, a few steps ahead.
pub struct Feed {
    source: Arc<Source>,
    ahead: Option<(usize, Receiver<Result<Draws>>)>,
}

struct Source {
    recipe: Recipe,
    loader: Loader,
    rows: Range<usize>,
    device: Device,
}

impl Feed {
    /// For the steps of `recipe`; `loader` gives the latents of these rows of each batch.
    pub fn new(recipe: &Recipe, loader: Loader, rows: Range<usize>, device: Device) -> Self {
        Self { source: Arc::new(Source { recipe: recipe.clone(), loader, rows, device }), ahead: None }
    }

    /// The draws of a step; cheapest when steps are asked for in order.
    ///
    /// # Errors
    /// When the latents cannot be read.
    pub fn draws(&mut self, step: usize) -> Result<Draws> {
        let draws = match self.ahead.take().filter(|(next, _)| *next == step) {
            Some((_, draws)) => draws,
            None => self.start(step)?,
        };
        let made = draws.recv().context("the thread that makes a step's draws has died")??;
        self.ahead = Some((step + 1, draws));
        Ok(made)
    }

    fn start(&self, first: usize) -> Result<Receiver<Result<Draws>>> {
        let (sender, draws) = sync_channel(AHEAD);
        let source = Arc::clone(&self.source);
        let work = move || {
            for step in first.. {
                let made = source.draws(step);
                let failed = made.is_err();
                // Nobody listens any more when the training has ended or goes on elsewhere.
                if sender.send(made).is_err() || failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("draws".into());
        drop(thread.spawn(work).context("starting the thread that makes a step's draws")?);
        Ok(draws)
    }
}

impl Source {
    fn draws(&self, step: usize) -> Result<Draws> {
        let batch = self.loader.batch(step)?;
        let Recipe { seed, network, objective, batch_size, .. } = &self.recipe;
        let (seed, step, images) = (*seed, step as u64, *batch_size as i64);
        let shape = [images, network.channels, network.side, network.side];
        let gates = [images, network.blocks, network.experts];
        let noisy = network.routed() && network.allocation == Allocation::NoisyGate;
        let rows = || self.rows.clone();
        let own =
            |whole: Tensor| whole.narrow(0, self.rows.start as i64, self.rows.len() as i64).contiguous();
        let draws = Draws {
            latents: Tensor::from_slice(&batch.latents).view([-1, shape[1], shape[2], shape[3]]),
            labels: Tensor::from_slice(&batch.labels),
            noise: random::normal_rows(seed, "noise", step, &shape, rows()),
            timesteps: own(objective.timesteps(seed, step, images)),
            label_dropout: own(random::uniform(seed, "label-dropout", step, &[images])),
            gates: noisy.then(|| random::normal_rows(seed, "gates", step, &gates, rows())),
        };
        draws.each(|tensor| transfer::pin(tensor.shallow_clone(), self.device))
    }
}

//! Makes a step's batch ahead of it, in a thread of its own.

use crate::{StepBatch, TrainingConfig};
use anyhow::{Context, Result};
use models::config::Allocation;
use shards::Loader;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use tch::{Device, Tensor};
use torch::{random, transfer};

/// Steps whose batches wait for them.
const AHEAD: usize = 2;

/// Makes the batches of a process's rows, a few steps ahead.
pub struct Prefetcher {
    maker: Arc<BatchMaker>,
    ahead: Option<(usize, Receiver<Result<StepBatch>>)>,
}

struct BatchMaker {
    config: TrainingConfig,
    loader: Loader,
    rows: Range<usize>,
    device: Device,
}

impl Prefetcher {
    /// For the steps of `config`; `loader` gives the latents of these rows of each batch.
    pub fn new(config: &TrainingConfig, loader: Loader, rows: Range<usize>, device: Device) -> Self {
        Self { maker: Arc::new(BatchMaker { config: config.clone(), loader, rows, device }), ahead: None }
    }

    /// The batch of a step; cheapest when steps are asked for in order.
    ///
    /// # Errors
    /// When the latents cannot be read.
    pub fn batch(&mut self, step: usize) -> Result<StepBatch> {
        let batches = match self.ahead.take().filter(|(next, _)| *next == step) {
            Some((_, batches)) => batches,
            None => self.start(step)?,
        };
        let made = batches.recv().context("the thread that makes batches has died")??;
        self.ahead = Some((step + 1, batches));
        Ok(made)
    }

    fn start(&self, first: usize) -> Result<Receiver<Result<StepBatch>>> {
        let (sender, batches) = sync_channel(AHEAD);
        let maker = Arc::clone(&self.maker);
        let work = move || {
            for step in first.. {
                let made = maker.batch(step);
                let failed = made.is_err();
                // Nobody listens any more when the training has ended or goes on elsewhere.
                if sender.send(made).is_err() || failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("batches".into());
        drop(thread.spawn(work).context("starting the thread that makes batches")?);
        Ok(batches)
    }
}

impl BatchMaker {
    fn batch(&self, step: usize) -> Result<StepBatch> {
        let loaded = self.loader.batch(step)?;
        let TrainingConfig { seed, network, objective, batch_size, .. } = &self.config;
        let (seed, step, images) = (*seed, step as u64, *batch_size as i64);
        let shape = [images, network.channels, network.side, network.side];
        let gates = [images, network.blocks, network.experts];
        let noisy = network.routed() && network.allocation == Allocation::NoisyGate;
        let rows = || self.rows.clone();
        let own =
            |whole: Tensor| whole.narrow(0, self.rows.start as i64, self.rows.len() as i64).contiguous();
        let batch = StepBatch {
            latents: Tensor::from_slice(&loaded.latents).view([-1, shape[1], shape[2], shape[3]]),
            labels: Tensor::from_slice(&loaded.labels),
            noise: random::normal_rows(seed, "noise", step, &shape, rows()),
            timesteps: own(objective.timesteps(seed, step, images)),
            label_dropout: own(random::uniform(seed, "label-dropout", step, &[images])),
            gates: noisy.then(|| random::normal_rows(seed, "gates", step, &gates, rows())),
        };
        batch.each(|tensor| transfer::pin(tensor.shallow_clone(), self.device))
    }
}

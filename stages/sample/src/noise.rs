//! The noise of a batch's chain, drawn ahead of its steps by a thread of its own.

use anyhow::{Context, Result};
use models::config::TIMESTEPS;
use rayon::prelude::*;
use rng::Stream;
use std::sync::mpsc::{Receiver, sync_channel};
use tch::{Device, Tensor};
use torch::transfer;

/// Steps whose noise waits for them.
const AHEAD: usize = 2;

/// Whose noise it is.
#[derive(Clone, Copy)]
pub struct Draw {
    /// Seed of the run.
    pub seed: u64,
    /// First picture.
    pub first: usize,
    /// Number of pictures.
    pub count: usize,
    /// A picture's latent, `[C, S, S]`.
    pub shape: [i64; 3],
}

impl Draw {
    /// The noise of these pictures at a step; each picture's own, whatever the batch.
    ///
    /// # Shapes
    /// `[count, C, S, S]`.
    fn make(&self, purpose: &str, step: usize) -> Tensor {
        let length = self.shape.iter().product::<i64>() as usize;
        let mut values = vec![0f32; self.count * length];
        values.par_chunks_mut(length).enumerate().for_each(|(i, picture)| {
            let index = (self.first + i) as u64 * TIMESTEPS as u64 + step as u64;
            Stream::new(self.seed, purpose, index).fill_normal(picture);
        });
        let [channels, height, width] = self.shape;
        Tensor::from_slice(&values).view([self.count as i64, channels, height, width])
    }
}

/// What a chain takes, in its order: where it starts, then the noise of every step but the last, if it draws any.
pub struct Noise {
    made: Receiver<Result<Tensor>>,
    device: Device,
}

impl Noise {
    /// For a chain of so many steps that draw noise on a device; the last of them takes none.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn ahead(draw: Draw, steps: usize, device: Device) -> Result<Self> {
        let (sender, made) = sync_channel(AHEAD);
        let work = move || {
            let parts = std::iter::once(("start", 0)).chain((1..steps).rev().map(|step| ("noise", step)));
            for (purpose, step) in parts {
                // Nobody listens any more when the chain was given up.
                if sender.send(transfer::pin(draw.make(purpose, step), device)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("noise".into());
        drop(thread.spawn(work).context("starting the thread that draws noise")?);
        Ok(Self { made, device })
    }

    /// The next, `[count, C, S, S]` on the device.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn take(&self) -> Result<Tensor> {
        let tensor = self.made.recv().context("the thread that draws noise has died")??;
        transfer::upload(&tensor, self.device)
    }
}

//! The chain from noise to picture.

use crate::{Args, Labels};
use anyhow::Result;
use models::checkpoint::About;
use models::config::TIMESTEPS;
use models::diffusion::{Diffusion, Respacing, Schedule};
use models::random::Stream;
use models::vae::{Vae, to_bytes};
use models::{Network, Precision, Timesteps};
use tch::{Kind, Tensor, no_grad};

/// A network, an autoencoder and the schedule between them.
pub struct Sampler {
    network: Network,
    vae: Vae,
    diffusion: Diffusion,
    /// What depends on the timestep alone, one per step.
    timesteps: Vec<Timesteps>,
    scale: f64,
    guidance: f64,
    precision: Precision,
    labels: Labels,
    seed: u64,
}

impl Sampler {
    /// A sampler as the arguments say, on the network's own schedule.
    ///
    /// # Errors
    /// Bad input when the number of steps does not fit.
    pub fn new(args: &Args, about: &About, network: Network, vae: Vae) -> Result<Self> {
        let respacing = Respacing::Sections(vec![args.steps]);
        let schedule = Schedule::new(about.schedule, TIMESTEPS as usize, &respacing)?;
        let diffusion = Diffusion::new(schedule, network.device());
        let seen = diffusion.schedule.timestep_map.iter();
        let timesteps = no_grad(|| {
            seen.map(|&t| network.timesteps(&Tensor::from_slice(&[t]).to_device(network.device()))).collect()
        });
        if args.precision != Precision::F32 {
            network.store_products(args.precision.kind());
        }
        Ok(Self {
            network,
            vae,
            diffusion,
            timesteps,
            scale: about.latents.scale,
            guidance: args.guidance,
            precision: args.precision,
            labels: args.labels,
            seed: args.seed,
        })
    }

    /// The labels of `count` pictures from number `first` on.
    pub fn labels(&self, first: usize, count: usize) -> Vec<i64> {
        let classes = self.network.config().classes as u64;
        (first as u64..(first + count) as u64)
            .map(|image| match self.labels {
                Labels::Balanced => image % classes,
                Labels::Uniform => Stream::new(self.seed, "label", image).below(classes),
            } as i64)
            .collect()
    }

    /// `count` pictures from number `first` on, as bytes.
    ///
    /// # Shapes
    /// `[count, H, W, 3]`, row by row.
    ///
    /// # Errors
    /// What `check` returns, which is asked before every step; when libtorch fails.
    pub fn batch(&self, first: usize, count: usize, check: impl Fn() -> Result<()>) -> Result<Vec<u8>> {
        let _guard = tch::no_grad_guard();
        let device = self.network.device();
        let labels = Tensor::from_slice(&self.labels(first, count)).to_device(device);
        let mut x = self.noise("start", first, count, 0).to_device(device); // [B, C, S, S]
        for step in (0..self.timesteps.len()).rev() {
            check()?;
            let output = self
                .precision
                .run(device, || self.network.guided(&x, &self.timesteps[step], &labels, self.guidance))?;
            let at = self.diffusion.at(&Tensor::from_slice(&[step as i64]).to_device(device));
            let guess = self.diffusion.predict(&at, &x, &output, false);
            // The last step takes no noise.
            x = match step {
                0 => guess.mean,
                _ => self.diffusion.ddpm(
                    &at,
                    &guess,
                    &self.noise("noise", first, count, step).to_device(device),
                ),
            };
        }
        let pictures = to_bytes(&self.vae.decode(&(x / self.scale))?)?; // [B, 3, H, W]
        let pictures = pictures.permute([0, 2, 3, 1]).contiguous().to_device(tch::Device::Cpu);
        debug_assert_eq!(pictures.kind(), Kind::Uint8);
        Ok(Vec::try_from(pictures.flatten(0, -1))?)
    }

    /// The noise of some pictures at a step; each picture's own, whatever the batch.
    ///
    /// # Shapes
    /// `[count, C, S, S]`.
    fn noise(&self, purpose: &str, first: usize, count: usize, step: usize) -> Tensor {
        let config = self.network.config();
        let shape = [count as i64, config.channels, config.side, config.side];
        let length = (config.channels * config.side * config.side) as usize;
        let mut values = vec![0f32; count * length];
        for (i, picture) in values.chunks_mut(length).enumerate() {
            let index = (first + i) as u64 * TIMESTEPS as u64 + step as u64;
            Stream::new(self.seed, purpose, index).fill_normal(picture);
        }
        Tensor::from_slice(&values).view(shape)
    }
}

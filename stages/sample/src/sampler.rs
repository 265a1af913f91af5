//! The chain from noise to picture.

use crate::experts::Experts;
use crate::{Args, Labels};
use anyhow::Result;
use models::config::TIMESTEPS;
use models::diffusion::{Diffusion, Respacing, Schedule};
use models::random::Stream;
use models::vae::{Vae, to_bytes};
use models::{Network, Precision, Timesteps};
use tch::{Kind, Tensor, no_grad};

/// Networks, an autoencoder and the schedule between them.
pub struct Sampler {
    networks: Vec<Network>,
    vae: Vae,
    diffusion: Diffusion,
    /// The steps of the chain, the last one first.
    steps: Vec<Step>,
    scale: f64,
    guidance: f64,
    precision: Precision,
    labels: Labels,
    seed: u64,
}

/// What a step needs that does not depend on the picture.
struct Step {
    /// Which network.
    network: usize,
    /// What depends on the timestep alone.
    timesteps: Timesteps,
}

impl Sampler {
    /// A sampler as the arguments say, on the networks' own schedule.
    ///
    /// # Errors
    /// Bad input when the number of steps does not fit.
    pub fn new(args: &Args, experts: Experts, vae: Vae) -> Result<Self> {
        let about = experts.about().clone();
        let (networks, serves) = experts.into_networks();
        let respacing = Respacing::Sections(vec![args.steps]);
        let schedule = Schedule::new(about.schedule, TIMESTEPS as usize, &respacing)?;
        let diffusion = Diffusion::new(schedule, networks[0].device());
        let step = |&t: &i64| {
            let network = serves(t);
            let t = Tensor::from_slice(&[t]).to_device(networks[network].device());
            Step { network, timesteps: networks[network].timesteps(&t) }
        };
        let steps = no_grad(|| diffusion.schedule.timestep_map.iter().map(step).collect());
        if args.precision != Precision::F32 {
            networks.iter().for_each(|network| network.store_products(args.precision.kind()));
        }
        Ok(Self {
            networks,
            vae,
            diffusion,
            steps,
            scale: about.latents.scale,
            guidance: args.guidance,
            precision: args.precision,
            labels: args.labels,
            seed: args.seed,
        })
    }

    /// The labels of `count` pictures from number `first` on.
    pub fn labels(&self, first: usize, count: usize) -> Vec<i64> {
        let classes = self.networks[0].config().classes as u64;
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
        let device = self.networks[0].device();
        let labels = Tensor::from_slice(&self.labels(first, count)).to_device(device);
        let mut x = self.noise("start", first, count, 0).to_device(device); // [B, C, S, S]
        for (step, Step { network, timesteps }) in self.steps.iter().enumerate().rev() {
            check()?;
            let network = &self.networks[*network];
            let output =
                self.precision.run(device, || network.guided(&x, timesteps, &labels, self.guidance))?;
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
        let config = self.networks[0].config();
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

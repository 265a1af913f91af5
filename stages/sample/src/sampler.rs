//! The chain from noise to picture.

use crate::experts::Experts;
use crate::noise::{Draw, Noise};
use crate::{Args, Labels};
use anyhow::Result;
use models::config::TIMESTEPS;
use models::diffusion::{Coefficients, Diffusion, Respacing, Schedule};
use models::random::Stream;
use models::transfer::Readback;
use models::vae::{Vae, to_bytes};
use models::{Network, Precision, Timesteps};
use tch::{Kind, Tensor, no_grad};

/// Networks and their schedule.
pub struct Sampler {
    networks: Vec<Network>,
    diffusion: Diffusion,
    /// The steps of the chain, the last one first.
    steps: Vec<Step>,
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
    /// The schedule's coefficients.
    at: Coefficients,
}

impl Sampler {
    /// A sampler as the arguments say, on the networks' own schedule.
    ///
    /// # Errors
    /// Bad input when the number of steps does not fit.
    pub fn new(args: &Args, experts: Experts) -> Result<Self> {
        let about = experts.about().clone();
        let (networks, serves) = experts.into_networks();
        let respacing = Respacing::Sections(vec![args.steps]);
        let schedule = Schedule::new(about.schedule, TIMESTEPS as usize, &respacing)?;
        let diffusion = Diffusion::new(schedule, networks[0].device());
        let one = |t: i64| Tensor::from_slice(&[t]).to_device(networks[0].device());
        let step = |(step, &t): (usize, &i64)| {
            let network = serves(t);
            let at = diffusion.at(&one(step as i64));
            Step { network, timesteps: networks[network].timesteps(&one(t)), at }
        };
        let steps = no_grad(|| diffusion.schedule.timestep_map.iter().enumerate().map(step).collect());
        if args.precision != Precision::F32 {
            networks.iter().for_each(|network| network.store_products(args.precision.kind()));
        }
        Ok(Self {
            networks,
            diffusion,
            steps,
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

    /// The latents of `count` pictures from number `first` on.
    ///
    /// # Shapes
    /// `[count, C, S, S]`, scaled as the network has them.
    ///
    /// # Errors
    /// What `check` returns, which is asked before every step; when libtorch fails.
    pub fn latents(&self, first: usize, count: usize, check: impl Fn() -> Result<()>) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let (config, device) = (self.networks[0].config(), self.networks[0].device());
        let labels = Tensor::from_slice(&self.labels(first, count)).to_device(device);
        let draw = Draw { seed: self.seed, first, count, shape: [config.channels, config.side, config.side] };
        let noise = Noise::ahead(draw, self.steps.len(), device)?;
        let mut x = noise.take()?;
        for (step, Step { network, timesteps, at }) in self.steps.iter().enumerate().rev() {
            check()?;
            let network = &self.networks[*network];
            let output =
                self.precision.run(device, || network.guided(&x, timesteps, &labels, self.guidance))?;
            let guess = self.diffusion.predict(at, &x, &output, false);
            // The last step takes no noise.
            x = match step {
                0 => guess.mean,
                _ => self.diffusion.ddpm(at, &guess, &noise.take()?),
            };
        }
        Ok(x)
    }
}

/// Turns latents into pictures.
pub struct Decoder {
    vae: Vae,
    scale: f64,
}

impl Decoder {
    /// `scale` is what latents were multiplied by for the network.
    pub fn new(vae: Vae, scale: f64) -> Self {
        Self { vae, scale }
    }

    /// # Shapes
    /// `latents` `[B, C, S, S]`, to `[B, H, W, 3]`, row by row.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn bytes(&self, latents: &Tensor) -> Result<Vec<u8>> {
        let _guard = tch::no_grad_guard();
        let pictures = to_bytes(&self.vae.decode(&(latents / self.scale))?)?; // [B, 3, H, W]
        let pictures = pictures.permute([0, 2, 3, 1]).contiguous();
        debug_assert_eq!(pictures.kind(), Kind::Uint8);
        Ok(Vec::try_from(Readback::begin(&pictures)?.wait()?.flatten(0, -1))?)
    }
}

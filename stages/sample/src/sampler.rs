//! The chain from noise to picture.

use crate::Args;
use crate::experts::Experts;
use crate::graphed_step::GraphedStep;
use crate::labels::Order;
use crate::noise::{Draw, Noise};
use crate::reverse_step::{ReverseStep, Step};
use anyhow::{Result, bail};
use latents::{Affine, LatentSpace};
use models::Network;
use models::config::TIMESTEPS;
use models::diffusion::{Diffusion, NoiseSchedule, Respacing, Schedule};
use rng::Stream;
use tch::{Device, Kind, Tensor, no_grad};
use torch::Precision;
use torch::graphs::CudaGraphs;
use torch::transfer::{self, Readback};
use vae::{Vae, to_bytes};

/// Networks and their schedule.
pub struct Sampler {
    networks: Vec<Network>,
    diffusion: Diffusion,
    /// The steps of the chain, the last one first.
    steps: Vec<Step>,
    guidance: f64,
    precision: Precision,
    labels: Order,
    seed: u64,
    /// For steps that are recorded.
    pub(crate) graphed: Option<GraphedStep>,
    /// Whether it is an error when they cannot be.
    insist: bool,
    notice: Option<String>,
}

impl Sampler {
    /// A sampler as the arguments say, on the networks' own schedule.
    ///
    /// # Errors
    /// Bad input when the number of steps does not fit.
    pub(crate) fn new(args: &Args, experts: Experts) -> Result<Self> {
        let schedule = experts.about().schedule;
        let names = experts.about().class_names.clone();
        let (networks, serves) = experts.into_networks();
        Self::of(args, networks, serves, schedule, &names)
    }

    /// A sampler of one network.
    ///
    /// # Errors
    /// Bad input when the number of steps does not fit.
    pub fn alone(args: &Args, network: Network, schedule: NoiseSchedule) -> Result<Self> {
        Self::of(args, vec![network], |_| 0, schedule, &[])
    }

    /// `serves` says which network is for a timestep.
    fn of(
        args: &Args,
        networks: Vec<Network>,
        serves: impl Fn(i64) -> usize,
        schedule: NoiseSchedule,
        class_names: &[String],
    ) -> Result<Self> {
        let respacing = Respacing::Sections(vec![args.steps]);
        let schedule = Schedule::new(schedule, TIMESTEPS as usize, &respacing)?;
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
        let labels = args.labels.order(networks[0].config().classes, class_names)?;
        let several = (networks.len() > 1).then_some("several networks are sampled as one");
        let side = args.cuda_graphs.side(networks[0].device(), several)?;
        Ok(Self {
            graphed: side.map(|side| GraphedStep::new(Some(side))),
            insist: args.cuda_graphs == CudaGraphs::On,
            notice: None,
            networks,
            diffusion,
            steps,
            guidance: args.guidance,
            precision: args.precision,
            labels,
            seed: args.seed,
        })
    }

    /// The labels of `count` pictures from number `first` on.
    pub fn labels(&self, first: usize, count: usize) -> Vec<i64> {
        let classes = self.networks[0].config().classes as u64;
        (first as u64..(first + count) as u64)
            .map(|image| match &self.labels {
                Order::InTurns(chosen) => chosen[(image % chosen.len() as u64) as usize],
                Order::Uniform => Stream::new(self.seed, "label", image).below(classes) as i64,
            })
            .collect()
    }

    /// The latents of `count` pictures from number `first` on.
    ///
    /// # Shapes
    /// `[count, C, S, S]`, scaled as the network has them.
    ///
    /// # Errors
    /// What `check` returns, which is asked before every step.
    pub fn latents(&mut self, first: usize, count: usize, check: impl Fn() -> Result<()>) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let (config, device) = (self.networks[0].config(), self.networks[0].device());
        let labels = transfer::pin(Tensor::from_slice(&self.labels(first, count)), device)?;
        let labels = transfer::upload(&labels, device)?;
        let draw = Draw { seed: self.seed, first, count, shape: [config.channels, config.side, config.side] };
        let noise = Noise::ahead(draw, self.steps.len(), device)?;
        let mut x = noise.take()?;
        let Self { networks, diffusion, steps, guidance, precision, graphed, insist, notice, .. } = self;
        let reverse = |step: &Step| ReverseStep {
            network: &networks[step.network],
            diffusion,
            guidance: *guidance,
            precision: *precision,
        };
        let [last, others @ ..] = steps.as_slice() else { return Ok(x) };
        let mut left = others.iter().rev();
        let mut next = || {
            check()?;
            left.next().map(|step| Ok((step, noise.take()?))).transpose()
        };
        if let Some(graphed) = graphed {
            let end = graphed.run(&reverse(last), &x, &labels, &mut next);
            if let Some(fault) = graphed.take_fault() {
                if *insist {
                    return Err(fault.context("--cuda-graphs on"));
                }
                *notice = Some(format!("going on without CUDA graphs: {fault:#}"));
            }
            x = end?.unwrap_or(x);
        }
        while let Some((step, noise)) = next()? {
            x = reverse(step).run(&x, &labels, step, Some(&noise))?;
        }
        // The last step takes no noise.
        reverse(last).run(&x, &labels, last, None)
    }

    /// Something to tell people, once.
    pub fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }
}

/// Turns latents into pictures.
pub struct Decoder {
    vae: Vae,
    /// How each channel's latents were moved and scaled for the network.
    maps: Vec<Affine>,
    guidance: f64,
}

impl Decoder {
    /// For latents of this space, sampled with this guidance.
    pub fn new(vae: Vae, space: &LatentSpace, guidance: f64) -> Self {
        let maps = space.affine(vae.config().latent as usize);
        Self { vae, maps, guidance }
    }

    /// The autoencoder's own latents.
    ///
    /// # Shapes
    /// `latents` and the result `[B, C, S, S]`.
    fn own(&self, latents: &Tensor) -> Tensor {
        let Affine { shift, scale } = self.maps[0];
        if self.maps.iter().all(|map| *map == self.maps[0]) {
            let own = latents / scale;
            return if shift == 0.0 { own } else { own + shift };
        }
        let channels = |part: fn(&Affine) -> f64| {
            let values: Vec<f32> = self.maps.iter().map(|map| part(map) as f32).collect();
            Tensor::from_slice(&values).view([1, -1, 1, 1]).to_device(latents.device())
        };
        latents / channels(|map| map.scale) + channels(|map| map.shift)
    }

    /// The pictures from number `first` on.
    ///
    /// # Shapes
    /// `latents` `[B, C, S, S]`, to `[B, H, W, 3]`, row by row.
    ///
    /// # Errors
    /// When a picture has numbers that are none, or libtorch fails.
    pub fn bytes(&self, latents: &Tensor, first: usize) -> Result<Vec<u8>> {
        let _guard = tch::no_grad_guard();
        let decoded = self.vae.decode(&self.own(latents))?; // [B, 3, H, W]
        // One look for both, as a device has to be waited for.
        if !weights::finite(&decoded)? {
            if let Some(at) = not_finite(latents)? {
                bail!(
                    "the latents of picture {} hold numbers that are none (NaN or infinite) behind the chain; \
                     --guidance {} may be more than its numbers bear",
                    first + at,
                    self.guidance
                )
            }
            let at = not_finite(&decoded)?.unwrap_or(0);
            bail!(
                "picture {} holds numbers that are none (NaN or infinite) behind the autoencoder",
                first + at
            )
        }
        let pictures = to_bytes(&decoded)?;
        let pictures = pictures.permute([0, 2, 3, 1]).contiguous();
        debug_assert_eq!(pictures.kind(), Kind::Uint8);
        Ok(Vec::try_from(Readback::begin(&pictures)?.wait()?.flatten(0, -1))?)
    }
}

/// The first of a batch with a number that is none.
///
/// # Shapes
/// `batch` `[B, …]`.
fn not_finite(batch: &Tensor) -> Result<Option<usize>> {
    let whole = batch.f_isfinite()?.f_flatten(1, -1)?.f_all_dim(1, false)?; // [B]
    Ok(Vec::<bool>::try_from(whole.f_to_device(Device::Cpu)?)?.iter().position(|whole| !whole))
}

//! The chain from noise to picture.

use crate::experts::Experts;
use crate::graphed_step::GraphedStep;
use crate::labels::Order;
use crate::noise::{Draw, Noise};
use crate::plan::{self, Plan};
use crate::reverse_step::{Evaluation, ReverseStep, Step, Stepped};
use crate::{Args, Method};
use anyhow::{Result, bail};
use latents::{Affine, LatentSpace};
use models::diffusion::{Diffusion, NoiseSchedule, PredictionType};
use models::{Guidance, Network};
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
    method: Method,
    eta: f64,
    /// Whether steps draw noise.
    draws: bool,
    guidance: Guidance,
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
    /// Bad input when method, steps or guidance do not fit the networks.
    pub(crate) fn new(args: &Args, experts: Experts) -> Result<Self> {
        let (prediction, schedule) = (experts.about().prediction, experts.about().schedule);
        let names = experts.about().class_names.clone();
        let (networks, serves) = experts.into_networks();
        Self::of(args, networks, serves, prediction, schedule, &names)
    }

    /// A sampler of the networks that the arguments name.
    ///
    /// # Errors
    /// Bad input when they cannot be read, or method, steps or guidance do not fit them.
    pub fn read(args: &Args, device: Device) -> Result<Self> {
        Self::new(args, Experts::read(args, device)?)
    }

    /// The same, whose steps go over tensors that stay in their places, as those that a graph repeats do.
    pub fn in_place(self) -> Self {
        Self { graphed: Some(GraphedStep::new(None)), ..self }
    }

    /// A sampler of one network that predicts noise.
    ///
    /// # Errors
    /// Bad input when method, steps or guidance do not fit the network.
    pub fn alone(args: &Args, network: Network, schedule: NoiseSchedule) -> Result<Self> {
        Self::of(args, vec![network], |_| 0, PredictionType::Noise, schedule, &[])
    }

    /// `serves` says which network is for a timestep.
    fn of(
        args: &Args,
        networks: Vec<Network>,
        serves: impl Fn(i64) -> usize,
        prediction: PredictionType,
        schedule: NoiseSchedule,
        class_names: &[String],
    ) -> Result<Self> {
        plan::can_guide(args, networks[0].config())?;
        let plan = Plan::new(args, prediction, schedule)?;
        let device = networks[0].device();
        let diffusion = Diffusion::of(prediction, plan.schedule.clone(), device);
        let one = |t: i64| Tensor::from_slice(&[t]).to_device(device);
        let evaluation = |t: i64| {
            let network = serves(t);
            Evaluation { network, timesteps: networks[network].timesteps(&one(t)), guided: plan.guides(t) }
        };
        let step = |(step, &t): (usize, &i64)| {
            let weights: Vec<f32> = plan.weights[step].iter().map(|weight| *weight as f32).collect();
            let weights = (!weights.is_empty()).then(|| Tensor::from_slice(&weights).view([-1, 1, 1, 1, 1]));
            Step {
                here: evaluation(t),
                there: plan.corrected_at(step).map(evaluation),
                at: diffusion.at(&one(step as i64)),
                weights: weights.map(|weights| weights.to_device(device)),
            }
        };
        let steps = no_grad(|| plan.schedule.timestep_map.iter().enumerate().map(step).collect());
        if args.precision != Precision::F32 {
            networks.iter().for_each(|network| network.store_products(args.precision.kind()));
        }
        let labels = args.labels.order(networks[0].config().classes, class_names)?;
        let several = (networks.len() > 1).then_some("several networks are sampled as one");
        let some = plan.guides_some().then_some("only some of the steps are guided");
        let side = args.cuda_graphs.side(device, several.or(some))?;
        Ok(Self {
            graphed: side.map(|side| GraphedStep::new(Some(side))),
            insist: args.cuda_graphs == CudaGraphs::On,
            notice: None,
            networks,
            diffusion,
            steps,
            method: plan.method,
            eta: args.eta,
            draws: plan.draws(args.eta),
            guidance: Guidance { scale: args.guidance, channels: args.guidance_channels },
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
        let (config, device) = (self.networks[0].config(), self.networks[0].device());
        let labels = transfer::pin(Tensor::from_slice(&self.labels(first, count)), device)?;
        let labels = transfer::upload(&labels, device)?;
        let draw = Draw { seed: self.seed, first, count, shape: [config.channels, config.side, config.side] };
        let noise = Noise::ahead(draw, if self.draws { self.steps.len() } else { 1 }, device)?;
        self.chain(&labels, || noise.take(), check)
    }

    /// The chain of these labels over this noise: where it starts, then that of every step but the last, if steps draw any.
    ///
    /// # Shapes
    /// `labels` `[B]`; noise and result `[B, C, S, S]`.
    ///
    /// # Errors
    /// What `noise` and `check` return, which is asked before every step.
    pub fn chain(
        &mut self,
        labels: &Tensor,
        mut noise: impl FnMut() -> Result<Tensor>,
        check: impl Fn() -> Result<()>,
    ) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let mut x = noise()?;
        let Self { networks, diffusion, steps, guidance, precision, graphed, insist, notice, .. } = self;
        let reverse = ReverseStep {
            networks,
            diffusion,
            method: self.method,
            eta: self.eta,
            guidance: *guidance,
            precision: *precision,
        };
        let [last, others @ ..] = steps.as_slice() else { return Ok(x) };
        let (mut left, draws) = (others.iter().rev(), self.draws);
        let mut next = || {
            check()?;
            let drawn = |step| Ok((step, draws.then(&mut noise).transpose()?));
            left.next().map(drawn).transpose()
        };
        let mut previous = None;
        if let Some(graphed) = graphed {
            let end = graphed.run(&reverse, &x, labels, &mut next);
            if let Some(fault) = graphed.take_fault() {
                if *insist {
                    return Err(fault.context("--cuda-graphs on"));
                }
                *notice = Some(format!("going on without CUDA graphs: {fault:#}"));
            }
            if let Some(Stepped { x: end, start }) = end? {
                (x, previous) = (end, start);
            }
        }
        while let Some((step, noise)) = next()? {
            let stepped = reverse.run(&x, labels, step, noise.as_ref(), previous.as_ref())?;
            (x, previous) = (stepped.x, stepped.start);
        }
        // The last step takes no noise.
        Ok(reverse.run(&x, labels, last, None, previous.as_ref())?.x)
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

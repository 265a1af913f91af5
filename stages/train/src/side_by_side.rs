//! A small network's batch on several cores: each takes some of its images from the noise to the gradients, alone.
//!
//! Operations of a small network are over before all threads have begun with them. So every thread has a network of its own over
//! the same weights, whose gradients add up at the end, in order: the sums of one batch in another order.

use crate::TrainingConfig;
use crate::pass::{Losses, Pass};
use crate::step_batch::StepBatch;
use anyhow::{Context as _, Result};
use models::Network;
use models::config::TIMESTEPS;
use models::diffusion::Diffusion;
use models::prior::Prior;
use std::ops::Range;
use tch::{Device, Tensor, no_grad};
use torch::flat::Flat;
use torch::shim::side_by_side;

/// Most parameters of a network that is done so: the gradients of each thread are as many, and have to be added up.
const MOST_PARAMETERS: usize = 1 << 22;
/// Fewest images that are worth a thread.
const FEWEST_IMAGES: usize = 8;

/// What the threads compute with.
pub struct SideBySide {
    twins: Vec<Twin>,
}

/// A thread's network, over the weights of all, and what else it reads.
struct Twin {
    network: Network,
    diffusion: Diffusion,
    gradient: Tensor,
}

/// Whether a training can be done so.
fn suits(config: &TrainingConfig, network: &Network, flat: &Flat) -> bool {
    let small = flat.values.numel() <= MOST_PARAMETERS;
    small && network.device() == Device::Cpu && config.accumulate == 1 && config.objective.divides()
}

impl SideBySide {
    /// For the threads that operations have now and so many images of a step; none where these are better off with all threads in
    /// every operation.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn new(
        config: &TrainingConfig,
        network: &Network,
        flat: &Flat,
        images: usize,
    ) -> Result<Option<Self>> {
        let threads = usize::try_from(tch::get_num_threads())?;
        let count = threads.min(images / FEWEST_IMAGES);
        if count < 2 || !suits(config, network, flat) {
            return Ok(None);
        }
        let twin = || {
            let network = network.twin()?;
            let gradient = flat.gradient_of(network.parameters());
            let diffusion = config.diffusion(network.device())?;
            Ok(Twin { network, diffusion, gradient })
        };
        Ok(Some(Self { twins: (0..count).map(|_| twin()).collect::<Result<_>>()? }))
    }

    /// A step's losses, and its gradients into `gradient`.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn run(
        &mut self,
        config: &TrainingConfig,
        batch: &StepBatch,
        step: u64,
        gradient: &Tensor,
    ) -> Result<Losses> {
        let matching = self.matching(config, step)?;
        let (images, count) = (batch.images(), self.twins.len());
        let inputs = self.twins.iter_mut().enumerate().map(|(i, twin)| {
            let rows = part(images, i, count);
            let share = rows.len() as f64 / images as f64;
            let batch = batch.rows(rows)?;
            Ok((twin, batch, matching.as_ref().map(Tensor::shallow_clone), share))
        });
        let done = side_by_side(inputs.collect::<Result<_>>()?, |(twin, batch, matching, share)| {
            let losses = twin.pass(config, step, share).run_matched(&batch, matching.as_ref())?;
            Ok((losses.names, losses.values * share))
        })?;
        self.add_up(gradient)?;
        let names = done.first().map(|(names, _)| names.clone()).unwrap_or_default();
        let values = done.into_iter().map(|(_, values)| values).reduce(|sum, values| sum + values);
        Ok(Losses { names, values: values.context("a batch without parts")? })
    }

    /// The step's matching; the threads share the timesteps that its costs are over.
    fn matching(&mut self, config: &TrainingConfig, step: u64) -> Result<Option<Tensor>> {
        let count = self.twins.len();
        let inputs =
            self.twins.iter_mut().enumerate().map(|(i, twin)| (twin, part(TIMESTEPS as usize, i, count)));
        let costs = side_by_side(inputs.collect(), |(twin, timesteps)| {
            twin.pass(config, step, 1.0).costs_of(timesteps.start as i64..timesteps.end as i64)
        })?;
        let costs: Option<Vec<Tensor>> = costs.into_iter().collect();
        let cost = costs.and_then(|costs| costs.into_iter().reduce(|sum, cost| sum + cost));
        Ok(cost.map(|cost| Prior::matching(&cost, config.seed, step)))
    }

    /// The sum of the threads' gradients, in their order.
    fn add_up(&self, gradient: &Tensor) -> Result<()> {
        let mut gradient = gradient.shallow_clone();
        for (i, twin) in self.twins.iter().enumerate() {
            no_grad(|| match i {
                0 => gradient.f_copy_(&twin.gradient).map(drop),
                _ => gradient.f_add_(&twin.gradient).map(drop),
            })?;
        }
        Ok(())
    }
}

impl Twin {
    fn pass<'a>(&'a self, config: &'a TrainingConfig, step: u64, share: f64) -> Pass<'a> {
        let Self { network, diffusion, gradient } = self;
        Pass { config, network, diffusion, log_variances: None, gradient, step, share }
    }
}

/// Part `i` of `count` consecutive ones that differ by one at most.
fn part(size: usize, i: usize, count: usize) -> Range<usize> {
    size * i / count..size * (i + 1) / count
}

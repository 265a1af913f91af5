//! One training: its network, averages and optimiser, and the step that moves them.

use crate::Recipe;
use crate::log::Line;
use crate::team::Team;
use anyhow::{Context, Result, ensure};
use models::checkpoint::{Checkpoint, Content, average_prefix};
use models::config::{Allocation, TIMESTEPS};
use models::diffusion::{Diffusion, Respacing, Schedule};
use models::flat::{Flat, Moments};
use models::parallel::Reducer;
use models::prior::Prior;
use models::shim::{self, AdamW};
use models::{Network, random};
use serde::{Deserialize, Serialize};
use shards::Batch;
use stage::BadInputExt;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor, no_grad};

/// A training between two steps.
pub struct Trainer {
    recipe: Recipe,
    network: Network,
    diffusion: Diffusion,
    flat: Flat,
    reducer: Option<Reducer>,
    moments: Moments,
    /// One per decay of the recipe.
    averages: Vec<Tensor>,
    scales: Option<Scales>,
    device: Device,
    step: usize,
    pending: Sums,
    clock: Clock,
}

/// Sums since the last line of the log; saved, so that a resumed run logs the same means.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sums {
    steps: usize,
    sums: BTreeMap<String, f64>,
}

/// The learned scales of uncertainty weighting, with their own moments and learning rate.
struct Scales {
    values: Tensor,
    moments: Moments,
}

/// ANT's learning rate for the scales.
const SCALES_RATE: f64 = 0.025;

impl Scales {
    fn fresh(count: i64, device: Device) -> Self {
        let zeros = || Tensor::zeros([count], (Kind::Float, device));
        let moments = Moments { first: zeros(), second: zeros() };
        Self { values: zeros().set_requires_grad(true), moments }
    }

    /// Their tensors in a checkpoint, under `uw.`.
    fn parts(&self) -> [(String, Tensor); 3] {
        let Moments { first, second } = &self.moments;
        [("scales", &self.values.detach()), ("first", first), ("second", second)]
            .map(|(name, tensor)| (name.to_string(), tensor.shallow_clone()))
    }
}

/// Time spent in steps of this process.
#[derive(Default)]
struct Clock {
    busy: Duration,
    steps: usize,
}

impl Trainer {
    /// A fresh network of the recipe.
    ///
    /// # Errors
    /// When the recipe does not fit together.
    pub fn fresh(recipe: Recipe, device: Device, team: &Team) -> Result<Self> {
        let network = Network::fresh(&recipe.network, recipe.seed, device)?;
        let flat = Flat::new(network.parameters());
        let averages = recipe.ema_decay.iter().map(|_| flat.values.copy()).collect();
        let moments = Moments { first: flat.zeros(), second: flat.zeros() };
        Self::new(recipe, network, flat, moments, averages, team)
    }

    /// The training that a checkpoint holds.
    ///
    /// # Errors
    /// Bad input when a tensor is missing, misshapen or left over.
    pub fn resume(recipe: Recipe, checkpoint: Checkpoint, device: Device, team: &Team) -> Result<Self> {
        let Checkpoint { about, mut weights } = checkpoint;
        let model = weights.split_off("model.");
        let network =
            Network::load(&recipe.network, model, true, device).context("taking the tensors model.*")?;
        let flat = Flat::new(network.parameters());
        let mut vector = |prefix: &str| -> Result<Tensor> {
            let vector = flat.zeros();
            let parts = flat.split(&vector);
            let mut stored = weights.split_off(prefix);
            for (name, shape) in flat.parts() {
                let value =
                    stored.take(name, shape).with_context(|| format!("taking the tensors {prefix}*"))?;
                parts[name].shallow_clone().copy_(&value);
            }
            // Averages also hold what is not trained.
            let frozen = network.parameters().iter().filter(|p| !p.trained).map(|p| p.name.clone());
            for name in frozen.chain(network.buffers().into_keys()).filter(|_| prefix.starts_with("ema.")) {
                let shape = stored.get(&name).map(Tensor::size).unwrap_or_default();
                drop(stored.take(&name, &shape)?);
            }
            stored.finish()?;
            Ok(vector)
        };
        let moments = Moments { first: vector("optimizer.first.")?, second: vector("optimizer.second.")? };
        let averages =
            recipe.ema_decay.iter().map(|d| vector(&average_prefix(*d))).collect::<Result<Vec<_>>>()?;
        let scales = recipe.objective.scales().map(|count| Scales::fresh(count, device));
        for (name, part) in scales.iter().flat_map(Scales::parts) {
            let stored = weights.take(&format!("uw.{name}"), &part.size())?;
            no_grad(|| part.shallow_clone().copy_(&stored));
        }
        weights.finish()?;
        let pending = serde_json::from_value(about.pending).bad_input(|| "the checkpoint's `pending`")?;
        let trainer = Self::new(recipe, network, flat, moments, averages, team)?;
        Ok(Self { step: about.step, pending, scales, ..trainer })
    }

    fn new(
        recipe: Recipe,
        network: Network,
        flat: Flat,
        moments: Moments,
        averages: Vec<Tensor>,
        team: &Team,
    ) -> Result<Self> {
        let device = network.device();
        let reducer = team.reducer(&network, &flat)?;
        let schedule = Schedule::new(recipe.schedule, TIMESTEPS as usize, &Respacing::All)?;
        let diffusion = Diffusion::new(schedule, device);
        let scales = recipe.objective.scales().map(|count| Scales::fresh(count, device));
        let (pending, clock) = (Sums::default(), Clock::default());
        Ok(Self {
            recipe,
            network,
            diffusion,
            flat,
            reducer,
            moments,
            averages,
            scales,
            device,
            step: 0,
            pending,
            clock,
        })
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// One optimiser step, on this process's rows of the batch. Random numbers are drawn for the whole batch.
    ///
    /// # Errors
    /// When the loss is no finite number; the weights are then as before the step.
    pub fn advance(&mut self, batch: &Batch, team: &Team) -> Result<()> {
        let begin = Instant::now();
        let (seed, step) = (self.recipe.seed, self.step as u64);
        let network = &self.network;
        let config = network.config();
        let images = self.recipe.batch_size as i64;
        let rows = team.rows(self.recipe.batch_size)?;
        let own = |whole: Tensor| {
            whole.narrow(0, rows.start as i64, rows.len() as i64).contiguous().to_device(self.device)
        };
        let latent = [config.channels, config.side, config.side];
        let shape = |images: i64| [&[images], latent.as_slice()].concat();
        let start = Tensor::from_slice(&batch.latents)
            .view(shape(rows.len() as i64).as_slice())
            .to_device(self.device);
        let noise = own(random::normal(seed, "noise", step, &shape(images)));
        let t = own(self.recipe.objective.timesteps(seed, step, images));
        let draw = own(random::uniform(seed, "label-dropout", step, &[images]));
        let labels = self.labels(&Tensor::from_slice(&batch.labels).to_device(self.device), &draw);
        let gate_noise = (config.routed() && config.allocation == Allocation::NoisyGate)
            .then(|| own(random::normal(seed, "gates", step, &[images, config.blocks, config.experts])));

        // The matching is over all timesteps and carries no gradient (Eqs. 8 and 9).
        let prior = network.prior().filter(|_| self.recipe.objective.matches());
        let matching = prior.and_then(|prior| {
            no_grad(|| {
                let all = network.all_timesteps();
                let cost = all.gates.map(|gates| prior.cost(&gates.chosen));
                cost.map(|cost| Prior::matching(&cost, seed, step))
            })
        });
        self.flat.clear();
        let parts = self.recipe.accumulate;
        let size = (rows.len() / parts) as i64;
        let mut names = Vec::new();
        let mut read = Vec::new();
        for part in 0..parts as i64 {
            let of = |whole: &Tensor| whole.narrow(0, part * size, size);
            let (start, noise, t) = (of(&start), of(&noise), of(&t));
            let x = self.diffusion.noised(&self.diffusion.at(&t), &start, &noise);
            let timesteps = network.noisy_timesteps(&t, gate_noise.as_ref().map(of).as_ref());
            let output = (self.recipe.precision)
                .run(self.device, || network.forward_at(&x, &timesteps, &of(&labels)))?;
            let weighting = self.recipe.objective.noise_weighting();
            let losses = self.diffusion.losses(&output, &start, &x, &noise, &t, weighting);
            let terms = self.recipe.objective.terms(
                &losses,
                timesteps.gates.as_ref(),
                prior.zip(matching.as_ref()),
                &t,
                self.scales.as_ref().map(|s| &s.values),
            );
            let loss = terms.loss / parts as f64;
            match &self.reducer {
                None => loss.backward(),
                Some(reducer) => {
                    reducer.begin()?;
                    loss.backward();
                    reducer.finish()?;
                }
            }
            let values: Vec<&Tensor> = terms.log.iter().map(|(_, value)| value).collect();
            read.push(Tensor::stack(&values, 0));
            names = terms.log.iter().map(|(name, _)| *name).collect();
        }
        let read = Tensor::stack(&read, 0).mean_dim([0i64].as_slice(), false, Kind::Float);
        team.mean(&read)?;
        let read: Vec<f64> = Vec::try_from(read.to_kind(Kind::Double).to_device(Device::Cpu))?;
        let rate = self.learning_rate();
        let told: Vec<String> =
            names.iter().zip(&read).map(|(name, value)| format!("{name} {value}")).collect();
        ensure!(
            read.iter().all(|v| v.is_finite()),
            "step {}: the loss is no finite number ({}) at learning rate {rate}",
            self.step + 1,
            told.join(", ")
        );
        if self.recipe.clip > 0.0 {
            drop(shim::clip(&[self.flat.gradient.shallow_clone()], self.recipe.clip)?);
        }
        let adam = AdamW { learning_rate: rate, weight_decay: self.recipe.weight_decay, ..AdamW::default() };
        self.flat.update(&adam, &mut self.moments, self.step + 1)?;
        if let Some(scales) = &mut self.scales {
            let adam = AdamW { learning_rate: SCALES_RATE, ..AdamW::default() };
            let one = |tensor: &Tensor| [tensor.shallow_clone()];
            let Moments { first, second } = &scales.moments;
            let (count, gradient) = (Tensor::from((self.step + 1) as f32), scales.values.grad());
            let count = count.to_device(self.device);
            adam.step(&one(&scales.values.detach()), &one(&gradient), &one(first), &one(second), &count)?;
            scales.values.zero_grad();
        }
        for (vector, decay) in self.averages.iter_mut().zip(&self.recipe.ema_decay) {
            self.flat.average(vector, *decay)?;
        }
        self.step += 1;
        self.pending.steps += 1;
        for (name, value) in names.iter().zip(&read) {
            *self.pending.sums.entry((*name).to_string()).or_default() += value;
        }
        self.clock.busy += begin.elapsed();
        self.clock.steps += 1;
        Ok(())
    }

    /// The learning rate of the coming step.
    fn learning_rate(&self) -> f64 {
        self.rate_of(self.step)
    }

    /// The learning rate after so many steps.
    fn rate_of(&self, step: usize) -> f64 {
        let Recipe { learning_rate, warm_up, .. } = self.recipe;
        if step < warm_up { learning_rate * (step + 1) as f64 / warm_up as f64 } else { learning_rate }
    }

    /// The labels, hidden where the draw says so.
    fn labels(&self, labels: &Tensor, draw: &Tensor) -> Tensor {
        let config = self.network.config();
        if !config.conditional() || config.label_dropout == 0.0 {
            return labels.shallow_clone();
        }
        labels.masked_fill(&draw.lt(config.label_dropout), config.null_label())
    }

    /// The log's line for the steps since the last one.
    pub fn take_means(&mut self) -> Line {
        let sums = std::mem::take(&mut self.pending);
        let clock = std::mem::take(&mut self.clock);
        let count = sums.steps.max(1) as f64;
        let rate = self.rate_of(self.step.saturating_sub(1));
        let images = (clock.steps * self.recipe.batch_size) as f64;
        Line {
            step: self.step,
            means: sums.sums.into_iter().map(|(name, sum)| (name, sum / count)).collect(),
            learning_rate: rate,
            images_per_second: (images / clock.busy.as_secs_f64().max(1e-9) * 10.0).round() / 10.0,
        }
    }

    /// Writes the checkpoint, atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut about = self.recipe.about(self.step)?;
        about.pending = serde_json::to_value(&self.pending)?;
        let mut content = Content::default();
        content.state("model.", &self.network, &self.flat, &self.flat.values);
        for (vector, decay) in self.averages.iter().zip(&self.recipe.ema_decay) {
            content.state(&average_prefix(*decay), &self.network, &self.flat, vector);
        }
        content.add("optimizer.first.", self.flat.split(&self.moments.first));
        content.add("optimizer.second.", self.flat.split(&self.moments.second));
        content.add("uw.", self.scales.iter().flat_map(Scales::parts));
        content.write(path, &about)
    }
}

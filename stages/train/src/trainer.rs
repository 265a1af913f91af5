//! One training: its network, averages and optimiser, and the step that moves them.

use crate::Recipe;
use crate::log::Line;
use crate::team::Team;
use anyhow::{Context, Result, ensure};
use models::checkpoint::{Checkpoint, Content, average_prefix};
use models::config::TIMESTEPS;
use models::diffusion::{Diffusion, Respacing, Schedule, Weighting};
use models::flat::{Flat, Moments};
use models::parallel::Reducer;
use models::prior::Prior;
use models::shim::AdamW;
use models::{Network, random};
use serde::{Deserialize, Serialize};
use shards::Batch;
use stage::BadInputExt;
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
    device: Device,
    step: usize,
    pending: Sums,
    clock: Clock,
}

/// Sums since the last line of the log; saved, so that a resumed run logs the same means.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sums {
    steps: usize,
    mse: f64,
    vb: f64,
    prior: f64,
    loss: f64,
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
        weights.finish()?;
        let pending = serde_json::from_value(about.pending).bad_input(|| "the checkpoint's `pending`")?;
        let trainer = Self::new(recipe, network, flat, moments, averages, team)?;
        Ok(Self { step: about.step, pending, ..trainer })
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
        let (pending, clock) = (Sums::default(), Clock::default());
        Ok(Self {
            recipe,
            network,
            diffusion,
            flat,
            reducer,
            moments,
            averages,
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
        let t = own(random::integers(seed, "timestep", step, TIMESTEPS, &[images]));
        let draw = own(random::uniform(seed, "label-dropout", step, &[images]));
        let labels = self.labels(&Tensor::from_slice(&batch.labels).to_device(self.device), &draw);

        // The matching is over all timesteps and carries no gradient (Eqs. 8 and 9).
        let matching = network.prior().map(|prior| {
            no_grad(|| {
                let all = network.all_timesteps();
                let cost = all.gates.map(|gates| prior.cost(&gates.chosen));
                cost.map(|cost| (prior, Prior::matching(&cost, seed, step)))
            })
        });
        let x = self.diffusion.noised(&self.diffusion.at(&t), &start, &noise);
        let timesteps = network.timesteps(&t);
        let output =
            self.recipe.precision.run(self.device, || network.forward_at(&x, &timesteps, &labels))?;
        let losses = self.diffusion.losses(&output, &start, &x, &noise, &t, Weighting::Constant);
        let prior = match (matching.flatten(), &timesteps.gates) {
            (Some((prior, matching)), Some(gates)) => prior.loss(gates, &t, &matching),
            _ => Tensor::zeros([], (Kind::Float, self.device)),
        };
        let loss = (&losses.mse + &losses.vb).mean(Kind::Float) + &prior * self.recipe.prior_weight;

        let mean = |x: &Tensor| x.detach().mean(Kind::Float);
        let read = Tensor::stack(&[mean(&losses.noise), mean(&losses.vb), prior.detach(), loss.detach()], 0);
        team.mean(&read)?;
        let read: Vec<f64> = Vec::try_from(read.to_kind(Kind::Double).to_device(Device::Cpu))?;
        ensure!(
            read.iter().all(|v| v.is_finite()),
            "step {}: the loss is no finite number (mse {}, vb {}, prior {}) at learning rate {}",
            self.step + 1,
            read[0],
            read[1],
            read[2],
            self.recipe.learning_rate
        );
        self.flat.clear();
        match &self.reducer {
            None => loss.backward(),
            Some(reducer) => {
                reducer.begin()?;
                loss.backward();
                reducer.finish()?;
            }
        }
        let Recipe { learning_rate, weight_decay, .. } = self.recipe;
        let adam = AdamW { learning_rate, weight_decay, ..AdamW::default() };
        self.flat.update(&adam, &mut self.moments, self.step + 1)?;
        for (vector, decay) in self.averages.iter_mut().zip(&self.recipe.ema_decay) {
            self.flat.average(vector, *decay)?;
        }
        self.step += 1;
        let p = &mut self.pending;
        p.steps += 1;
        (p.mse, p.vb, p.prior, p.loss) =
            (p.mse + read[0], p.vb + read[1], p.prior + read[2], p.loss + read[3]);
        self.clock.busy += begin.elapsed();
        self.clock.steps += 1;
        Ok(())
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
        let images = (clock.steps * self.recipe.batch_size) as f64;
        Line {
            step: self.step,
            mse: sums.mse / count,
            vb: sums.vb / count,
            prior: sums.prior / count,
            loss: sums.loss / count,
            learning_rate: self.recipe.learning_rate,
            images_per_second: (images / clock.busy.as_secs_f64().max(1e-9) * 10.0).round() / 10.0,
        }
    }

    /// Writes the checkpoint, atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut about = self.recipe.about(self.step)?;
        about.pending = serde_json::to_value(self.pending)?;
        let mut content = Content::default();
        content.state("model.", &self.network, &self.flat, &self.flat.values);
        for (vector, decay) in self.averages.iter().zip(&self.recipe.ema_decay) {
            content.state(&average_prefix(*decay), &self.network, &self.flat, vector);
        }
        content.add("optimizer.first.", self.flat.split(&self.moments.first));
        content.add("optimizer.second.", self.flat.split(&self.moments.second));
        content.write(path, &about)
    }
}

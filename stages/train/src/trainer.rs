//! One training: its network, averages and optimiser, and the step that moves them.

use crate::TrainingConfig;
use crate::agreement::{Looked, Maps};
use crate::graphed_pass::GraphedPass;
use crate::line::Line;
use crate::log_variances::LogVariances;
use crate::pass::{Losses, Pass};
use crate::side_by_side::SideBySide;
use crate::step_batch::StepBatch;
use anyhow::{Context as _, Result, ensure};
use models::Network;
use models::checkpoint::{Checkpoint, Content, average_prefix};
use models::diffusion::Diffusion;
use serde::{Deserialize, Serialize};
use stage::BadInputExt;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor, no_grad};
use torch::flat::{AdamMoments, Flat};
use torch::parallel::{ProcessGroup, Reducer};
use torch::shim::{self, AdamW, SideStream};
use torch::transfer::Readback;

/// A training between two steps.
pub struct Trainer {
    config: TrainingConfig,
    network: Network,
    diffusion: Diffusion,
    flat: Flat,
    reducer: Option<Reducer>,
    side_by_side: Option<SideBySide>,
    moments: AdamMoments,
    /// One per decay.
    averages: Vec<Tensor>,
    log_variances: Option<LogVariances>,
    device: Device,
    step: usize,
    pub(crate) graphs: Option<GraphedPass>,
    /// Whether it is an error when steps cannot be repeated.
    insist: bool,
    notice: Option<String>,
    unread: Option<Unread>,
    pending: Sums,
    /// The last look at the gating maps.
    looked: Option<Looked>,
    clock: Clock,
}

/// The losses of a step, on their way from the device.
struct Unread {
    step: usize,
    rate: f64,
    names: Vec<&'static str>,
    values: Readback,
}

/// Sums since the last line of the log; saved, so that a resumed run logs the same means.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sums {
    steps: usize,
    sums: BTreeMap<String, f64>,
}

/// Time spent in steps of this process.
#[derive(Default)]
struct Clock {
    busy: Duration,
    steps: usize,
}

impl Trainer {
    /// A fresh network.
    ///
    /// # Errors
    /// When its sizes do not fit together.
    pub fn fresh(config: TrainingConfig, device: Device, group: &ProcessGroup) -> Result<Self> {
        let network = Network::fresh(&config.network, config.seed, device)?;
        let flat = Flat::new(network.parameters());
        let averages = config.ema_decay.iter().map(|_| flat.values.copy()).collect();
        let moments = AdamMoments { first: flat.zeros(), second: flat.zeros() };
        Self::new(config, network, flat, moments, averages, group)
    }

    /// A new training that begins with a checkpoint's weights. Averages begin as the checkpoint's average of the same decay,
    /// else as its first, else as the weights.
    ///
    /// # Errors
    /// Bad input when a tensor is missing, misshapen or left over.
    pub fn initialized(
        config: TrainingConfig,
        mut checkpoint: Checkpoint,
        device: Device,
        group: &ProcessGroup,
    ) -> Result<Self> {
        let model = checkpoint.weights.split_off("model.");
        let network =
            Network::load(&config.network, model, true, device).context("taking the tensors model.*")?;
        let flat = Flat::new(network.parameters());
        let decays = checkpoint.about.ema_decays.clone();
        let stored = decays
            .into_iter()
            .map(|decay| Ok((decay, checkpoint.network(Some(decay), device)?.state())))
            .collect::<Result<Vec<_>>>()?;
        let average = |decay: &f64| {
            let average = flat.values.copy();
            if let Some((_, state)) = stored.iter().find(|(d, _)| d == decay).or(stored.first()) {
                flat.split(&average).iter_mut().for_each(|(name, part)| part.copy_(&state[name]));
            }
            average
        };
        let averages = config.ema_decay.iter().map(average).collect();
        let moments = AdamMoments { first: flat.zeros(), second: flat.zeros() };
        Self::new(config, network, flat, moments, averages, group)
    }

    /// The training that a checkpoint holds.
    ///
    /// # Errors
    /// Bad input when a tensor is missing, misshapen or left over.
    pub fn resume(
        config: TrainingConfig,
        checkpoint: Checkpoint,
        device: Device,
        group: &ProcessGroup,
    ) -> Result<Self> {
        let Checkpoint { about, mut weights, .. } = checkpoint;
        let model = weights.split_off("model.");
        let network =
            Network::load(&config.network, model, true, device).context("taking the tensors model.*")?;
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
                let shape = stored.size(&name).unwrap_or_default();
                drop(stored.take(&name, &shape)?);
            }
            stored.finish()?;
            Ok(vector)
        };
        let moments =
            AdamMoments { first: vector("optimizer.first.")?, second: vector("optimizer.second.")? };
        let averages =
            config.ema_decay.iter().map(|d| vector(&average_prefix(*d))).collect::<Result<Vec<_>>>()?;
        let log_variances = config.objective.log_variances().map(|count| LogVariances::fresh(count, device));
        for (name, part) in log_variances.iter().flat_map(LogVariances::parts) {
            let stored = weights.take(&format!("uw.{name}"), &part.size())?;
            no_grad(|| part.shallow_clone().copy_(&stored));
        }
        weights.finish()?;
        let pending = serde_json::from_value(about.pending).bad_input(|| "the checkpoint's `pending`")?;
        let trainer = Self::new(config, network, flat, moments, averages, group)?;
        Ok(Self { step: about.step, pending, log_variances, ..trainer })
    }

    fn new(
        config: TrainingConfig,
        network: Network,
        flat: Flat,
        moments: AdamMoments,
        averages: Vec<Tensor>,
        group: &ProcessGroup,
    ) -> Result<Self> {
        let device = network.device();
        let side_by_side = SideBySide::new(&config, &network, &flat, config.batch_size / group.size())?;
        let reducer = match group.any(side_by_side.is_some())? {
            true => None,
            false => group.reducer(network.parameters(), &flat.gradient)?,
        };
        let diffusion = config.diffusion(device)?;
        let log_variances = config.objective.log_variances().map(|count| LogVariances::fresh(count, device));
        let (pending, clock) = (Sums::default(), Clock::default());
        Ok(Self {
            config,
            network,
            diffusion,
            flat,
            reducer,
            side_by_side,
            moments,
            averages,
            log_variances,
            device,
            step: 0,
            graphs: None,
            insist: false,
            notice: None,
            unread: None,
            pending,
            looked: None,
            clock,
        })
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// From here on, records steps on this stream and repeats them, if there is one. `insist` makes it an error when they
    /// cannot be.
    pub fn record(&mut self, side: Option<SideStream>, insist: bool) {
        self.graphs = side.map(|side| GraphedPass::new(Some(side)));
        self.insist = insist;
    }

    /// Something to tell people, once.
    pub fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }

    /// One optimiser step, on this process's rows of the batch. Its losses are read while the next one runs, so that the host
    /// never waits for a GPU that has nothing else to do.
    ///
    /// # Errors
    /// When the loss of the step before was no finite number.
    pub fn advance(&mut self, batch: StepBatch, group: &ProcessGroup) -> Result<()> {
        let begin = Instant::now();
        let losses = self.pass(&batch)?;
        if self.reducer.is_none() {
            group.mean(&self.flat.gradient)?;
        }
        let rate = self.learning_rate();
        let values = Readback::begin(&losses.values)?;
        let unread = Unread { step: self.step + 1, rate, names: losses.names, values };
        let before = self.unread.replace(unread);
        self.update(rate)?;
        self.step += 1;
        if let Some(before) = before {
            self.read(before, group)?;
        }
        self.clock.busy += begin.elapsed();
        self.clock.steps += 1;
        Ok(())
    }

    /// The step's gradients.
    fn pass(&mut self, batch: &StepBatch) -> Result<Losses> {
        if let Some(side_by_side) = &mut self.side_by_side {
            return side_by_side.run(&self.config, batch, self.step as u64, &self.flat.gradient);
        }
        let pass = Pass {
            config: &self.config,
            network: &self.network,
            diffusion: &self.diffusion,
            log_variances: self.log_variances.as_ref().map(|log_variances| &log_variances.values),
            gradient: &self.flat.gradient,
            step: self.step as u64,
            share: 1.0,
        };
        let Some(graphs) = &mut self.graphs else {
            return pass.run(&batch.upload(self.device)?, self.reducer.as_ref());
        };
        let losses = graphs.step(&pass, batch)?;
        if let Some(fault) = graphs.take_fault() {
            if self.insist {
                return Err(fault.context("--cuda-graphs on"));
            }
            self.notice = Some(format!("going on without CUDA graphs: {fault:#}"));
            self.graphs = None;
        }
        Ok(losses)
    }

    /// Moves the weights along the gradients, and the averages after them.
    fn update(&mut self, rate: f64) -> Result<()> {
        if self.config.clip > 0.0 {
            drop(shim::clip(&[self.flat.gradient.shallow_clone()], self.config.clip)?);
        }
        let adam = AdamW { learning_rate: rate, weight_decay: self.config.weight_decay, ..AdamW::default() };
        self.flat.update(&adam, &mut self.moments, self.step + 1)?;
        if let Some(log_variances) = &self.log_variances {
            log_variances.update(self.step + 1)?;
        }
        for (vector, decay) in self.averages.iter_mut().zip(&self.config.ema_decay) {
            self.flat.average(vector, *decay)?;
        }
        Ok(())
    }

    /// Reads the losses that are not read yet: needed before the log's line and the checkpoint.
    ///
    /// # Errors
    /// When they are no finite numbers.
    pub fn settle(&mut self, group: &ProcessGroup) -> Result<()> {
        let begin = Instant::now();
        if let Some(unread) = self.unread.take() {
            self.read(unread, group)?;
        }
        self.clock.busy += begin.elapsed();
        Ok(())
    }

    fn read(&mut self, unread: Unread, group: &ProcessGroup) -> Result<()> {
        let Unread { step, rate, names, values } = unread;
        let values = values.wait()?;
        group.mean(&values)?;
        let values: Vec<f64> = Vec::try_from(values.to_kind(Kind::Double))?;
        let told: Vec<String> =
            names.iter().zip(&values).map(|(name, value)| format!("{name} {value}")).collect();
        ensure!(
            values.iter().all(|v| v.is_finite()),
            "step {step}: the loss is no finite number ({}) at learning rate {rate}",
            told.join(", ")
        );
        self.pending.steps += 1;
        for (name, value) in names.iter().zip(&values) {
            *self.pending.sums.entry((*name).to_string()).or_default() += value;
        }
        Ok(())
    }

    /// The learning rate of the coming step.
    fn learning_rate(&self) -> f64 {
        self.rate_of(self.step)
    }

    /// The learning rate after so many steps.
    fn rate_of(&self, step: usize) -> f64 {
        let TrainingConfig { learning_rate, warm_up, .. } = self.config;
        if step < warm_up { learning_rate * (step + 1) as f64 / warm_up as f64 } else { learning_rate }
    }

    /// The log's line for the steps since the last one, once they are settled.
    pub fn take_means(&mut self) -> Line {
        let sums = std::mem::take(&mut self.pending);
        let clock = std::mem::take(&mut self.clock);
        let count = sums.steps.max(1) as f64;
        let rate = self.rate_of(self.step.saturating_sub(1));
        let images = (clock.steps * self.config.batch_size) as f64;
        Line {
            step: self.step,
            means: sums.sums.into_iter().map(|(name, sum)| (name, sum / count)).collect(),
            learning_rate: rate,
            images_per_second: (images / clock.busy.as_secs_f64().max(1e-9) * 10.0).round() / 10.0,
        }
    }

    /// Looks at the gating maps: by their names in the log, the shares of them that agree with the prior, and with what they were at
    /// the look before, if there was one. Nothing where no gate learns to choose.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn look(&mut self) -> Result<BTreeMap<String, f64>> {
        let Some((maps, mut shares)) = Maps::of(&self.network, &self.flat, &self.averages)? else {
            return Ok(BTreeMap::new());
        };
        if let Some(before) = &self.looked {
            shares.extend(maps.since(&before.maps, &self.network)?);
        }
        self.looked = Some(Looked { step: self.step, maps });
        Ok(shares)
    }

    /// The last look.
    pub fn looked(&self) -> Option<&Looked> {
        self.looked.as_ref()
    }

    /// Takes a look of before for the last one.
    pub fn remember(&mut self, looked: Option<Looked>) {
        self.looked = looked;
    }

    /// Writes the checkpoint of settled steps, atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut about = self.config.about(self.step)?;
        about.pending = serde_json::to_value(&self.pending)?;
        let mut content = Content::default();
        content.state("model.", &self.network, &self.flat, &self.flat.values);
        for (vector, decay) in self.averages.iter().zip(&self.config.ema_decay) {
            content.state(&average_prefix(*decay), &self.network, &self.flat, vector);
        }
        content.add("optimizer.first.", self.flat.split(&self.moments.first));
        content.add("optimizer.second.", self.flat.split(&self.moments.second));
        content.add("uw.", self.log_variances.iter().flat_map(LogVariances::parts));
        content.write(path, &about)
    }
}

//! What decides the course of a training, apart from how long it lasts.

use crate::Args;
use crate::objective::Objective;
use anyhow::Result;
use models::Config;
use models::checkpoint::{self, Checkpoint, CheckpointMetadata, LatentSpace};
use models::config::{Allocation, Draws, TIMESTEPS};
use models::diffusion::{Diffusion, NoiseSchedule, PredictionType, Respacing, Schedule};
use models::interchange::{self, Hints};
use serde::{Deserialize, Serialize};
use shards::Latents;
use stage::bad_input;
use std::path::Path;
use tch::Device;
use torch::Precision;

/// Everything that a training must share with the checkpoint it goes on from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainingConfig {
    /// The network.
    pub network: Config,
    /// The noise schedule.
    pub schedule: NoiseSchedule,
    /// What the network predicts.
    #[serde(default, skip_serializing_if = "PredictionType::is_noise")]
    pub prediction: PredictionType,
    /// The latents' space.
    pub latents: LatentSpace,
    /// Names of the classes, where they have any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// Latents to learn from.
    pub rows: usize,
    /// Latents per step.
    pub batch_size: usize,
    /// AdamW's learning rate.
    pub learning_rate: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Decays of the averages.
    pub ema_decay: Vec<f64>,
    /// Steps over which the learning rate rises.
    pub warm_up: usize,
    /// Greatest norm of the gradient; 0 for any.
    pub clip: f64,
    /// Parts of a batch.
    pub accumulate: usize,
    /// What is minimised.
    pub objective: Objective,
    /// What products are computed in.
    pub precision: Precision,
    /// Seed.
    pub seed: u64,
    /// BLAKE3 of the checkpoint that it begins with, where it does not begin with random weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialize: Option<String>,
    /// Whether the table of labels is not taken from there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_labels: bool,
}

impl TrainingConfig {
    /// What the arguments and the latents give.
    ///
    /// # Errors
    /// Bad input when they do not fit together.
    pub fn new(args: &Args, latents: &Latents) -> Result<Self> {
        let [channels, height, width] = latents.shape();
        if height != width {
            bad_input!("{}: latents of {height}x{width}; the networks take squares", args.latents.display())
        }
        let network = network(args, channels as i64, height as i64, latents.classes() as i64)?;
        let objective = Objective::new(args, &network)?;
        fit(args, &objective)?;
        if args.new_labels && args.initialize.is_none() {
            bad_input!("--new-labels without --initialize: a fresh network's labels are new")
        }
        let about = latents.about();
        Ok(Self {
            network,
            schedule: args.schedule,
            prediction: args.prediction,
            latents: about.space(),
            class_names: about.class_names.clone(),
            rows: latents.len(),
            batch_size: args.batch_size,
            learning_rate: args.learning_rate,
            weight_decay: args.weight_decay,
            ema_decay: args.ema_decay.clone(),
            warm_up: args.warm_up,
            clip: args.clip,
            accumulate: args.accumulate,
            objective,
            precision: args.precision,
            seed: args.seed,
            initialize: args.initialize.as_deref().map(initial_digest).transpose()?,
            new_labels: args.new_labels,
        })
    }

    /// The diffusion on a device.
    ///
    /// # Errors
    /// When the schedule cannot be made.
    pub fn diffusion(&self, device: Device) -> Result<Diffusion> {
        let schedule = Schedule::new(self.schedule, TIMESTEPS as usize, &Respacing::All)?;
        Ok(Diffusion::of(self.prediction, schedule, device))
    }

    /// The description of a checkpoint at `step`.
    pub fn about(&self, step: usize) -> Result<CheckpointMetadata> {
        let mut about = CheckpointMetadata::new(
            step,
            self.network.clone(),
            self.schedule,
            self.ema_decay.clone(),
            self.latents.clone(),
        );
        about.interval = self.objective.interval;
        about.class_names = self.class_names.clone();
        about.prediction = self.prediction;
        about.training = serde_json::to_value(self)?;
        Ok(about)
    }

    /// The checkpoint that this training begins with, of the same network.
    ///
    /// # Errors
    /// Bad input when it cannot be read, or is of another network.
    pub fn initial(&self, path: &Path) -> Result<Checkpoint> {
        let mut checkpoint = interchange::read(path, &self.hints())?;
        if let Some(difference) = self.other_network(&checkpoint.about)? {
            let labels = ["classes ", "null-row "].iter().any(|name| difference.starts_with(name));
            let hint = if labels { "; --new-labels begins the table of labels anew" } else { "" };
            bad_input!("{}: a checkpoint of another network: {difference}{hint}", checkpoint.weights.source())
        }
        if self.new_labels {
            checkpoint.renew_labels(&self.network, self.seed);
        }
        Ok(checkpoint)
    }

    /// The checkpoint that this training goes on from, ours or the reference's.
    ///
    /// # Errors
    /// Bad input when it cannot be read, or has no optimiser's state.
    pub fn continued(&self, path: &Path) -> Result<Checkpoint> {
        let checkpoint = match interchange::is_pickle(path) {
            true => interchange::read_whole(path, &self.hints())?,
            false => Checkpoint::read(path)?,
        };
        if !checkpoint.weights.names().any(|name| name.starts_with("optimizer.")) {
            bad_input!(
                "{}: no optimiser's state in it to go on with; --initialize begins a new training with its weights",
                checkpoint.weights.source()
            )
        }
        Ok(checkpoint)
    }

    fn hints(&self) -> Hints {
        Hints {
            schedule: Some(self.schedule),
            prediction: Some(self.prediction),
            heads: Some(self.network.heads),
            classes: (!self.new_labels).then_some(self.network.classes),
            any_classes: self.new_labels,
            ..Hints::default()
        }
    }

    /// What differs between this training and a checkpoint's, in words: `batch-size is 64, there 32`. What another program's file
    /// does not say is this training's own.
    pub fn difference(&self, about: &CheckpointMetadata) -> Result<Option<String>> {
        let mut ours = serde_json::to_value(self)?;
        let mut theirs = about.training.clone();
        if let (true, Some(ours), Some(theirs)) =
            (about.foreign, ours.as_object_mut(), theirs.as_object_mut())
        {
            if let Some(difference) = self.other_network(about)? {
                return Ok(Some(difference));
            }
            theirs.insert("schedule".into(), serde_json::to_value(about.schedule)?);
            if !about.prediction.is_noise() {
                theirs.insert("prediction".into(), serde_json::to_value(about.prediction)?);
            }
            theirs.insert("ema-decay".into(), serde_json::to_value(&about.ema_decays)?);
            ours.retain(|name, _| theirs.contains_key(name));
        }
        Ok(differences(&ours, &theirs))
    }

    /// What differs between this network and a checkpoint's. The share of hidden labels is this training's own, and so are labels
    /// that begin anew.
    fn other_network(&self, about: &CheckpointMetadata) -> Result<Option<String>> {
        let Config { label_dropout, classes, null_row, .. } = self.network;
        let mut theirs = Config { label_dropout, ..about.network.clone() };
        if self.new_labels {
            (theirs.classes, theirs.null_row) = (classes, null_row);
        }
        Ok(differences(&serde_json::to_value(&self.network)?, &serde_json::to_value(theirs)?))
    }
}

/// Refuses a training that cannot be divided among the processes, or a batch that cannot be into `--accumulate` parts.
///
/// # Errors
/// Bad input that says which.
pub fn divides(args: &Args, objective: &Objective, processes: usize) -> Result<()> {
    let (rows, parts) = (args.batch_size, args.accumulate);
    if !rows.is_multiple_of(processes) {
        bad_input!("--batch-size {rows} does not divide among {processes} processes")
    }
    if !(rows / processes).is_multiple_of(parts) {
        bad_input!("the {} rows of each process are no multiple of --accumulate {parts}", rows / processes)
    }
    if processes > 1 && !objective.divides() {
        bad_input!(
            "several processes: this weighting or gating needs the whole batch at once, in one process"
        )
    }
    Ok(())
}

/// Whether the arguments fit what is minimised, and each other.
///
/// # Errors
/// Bad input when they do not.
pub fn fit(args: &Args, objective: &Objective) -> Result<()> {
    if args.accumulate > 1 && !objective.divides() {
        bad_input!("--accumulate {}: this weighting or gating needs the whole batch at once", args.accumulate)
    }
    if !args.batch_size.is_multiple_of(args.accumulate) {
        bad_input!("--batch-size {} is no multiple of --accumulate {}", args.batch_size, args.accumulate)
    }
    let mut seen = Vec::new();
    for decay in &args.ema_decay {
        if seen.contains(&decay) {
            bad_input!("--ema-decay: {decay} is there twice")
        }
        seen.push(decay);
    }
    Ok(())
}

fn initial_digest(path: &Path) -> Result<String> {
    stage::digest(&checkpoint::resolve(path)?)
}

/// The network that the arguments name.
///
/// # Errors
/// Bad input when they do not fit together.
pub fn network(args: &Args, channels: i64, side: i64, classes: i64) -> Result<Config> {
    let mut network = Config::preset(&args.model, side, classes)?;
    network.channels = channels;
    let routing = [
        ("experts", args.experts.is_some()),
        ("top-k", args.top_k.is_some()),
        ("integration", args.integration.is_some()),
    ];
    if let Some((flag, _)) = routing.iter().find(|(_, given)| *given && !network.routed()) {
        bad_input!("--{flag}: {} has no experts", network.architecture)
    }
    network.experts = args.experts.map_or(network.experts, |n| n as i64);
    network.top_k = args.top_k.map_or(network.top_k, |n| n as i64);
    network.integration = args.integration.unwrap_or(network.integration);
    network.allocation = args.gating.map_or(network.allocation, Objective::allocation);
    network.allocation_seed = args.seed;
    if network.allocation == Allocation::Random {
        network.allocation_draws = Draws::Independent;
    }
    network.relations = args.relations;
    network.label_dropout = args.label_dropout;
    network.check()?;
    Ok(network)
}

/// Where two values differ, in words.
fn differences(ours: &serde_json::Value, theirs: &serde_json::Value) -> Option<String> {
    let mut found = Vec::new();
    compare("", ours, theirs, &mut found);
    (!found.is_empty()).then(|| found.join(", "))
}

/// Adds the places where two values differ, in words.
fn compare(path: &str, ours: &serde_json::Value, theirs: &serde_json::Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (serde_json::Value::Object(a), serde_json::Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let null = serde_json::Value::Null;
                let (ours, theirs) = (a.get(name).unwrap_or(&null), b.get(name).unwrap_or(&null));
                compare(
                    &format!("{path}{}{name}", if path.is_empty() { "" } else { "." }),
                    ours,
                    theirs,
                    found,
                );
            }
        }
        _ if ours == theirs => {}
        _ => found.push(format!("{path} is {ours} here and {theirs} there")),
    }
}

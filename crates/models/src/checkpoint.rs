//! Checkpoints: everything that training needs to go on and sampling needs to begin, in one safetensors file.
//!
//! Tensors: `model.NAME`, `ema.DECAY.NAME` for each decay, `optimizer.first.NAME` and `optimizer.second.NAME`, where `NAME`
//! is the name in the reference's state dict; `uw.scales`, `uw.first` and `uw.second` where scales are learned. Metadata:
//! [`CheckpointMetadata`], and beside it the checksums that [`weights`] keeps.

use crate::Network;
use crate::config::{Config, TIMESTEPS};
use crate::diffusion::{NoiseSchedule, PredictionType};
use crate::label::{LABEL_TABLE, fresh_table};
use anyhow::{Context, Result};
pub use latents::LatentSpace;
use serde::{Deserialize, Serialize};
use stage::{BadInputExt, bad_input};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};
use torch::flat::Flat;
use weights::Weights;

/// Version 1: as described here.
const VERSION: u32 = 1;
/// The metadata key that holds [`CheckpointMetadata`] as JSON.
const KEY: &str = "checkpoint";

/// What a checkpoint holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CheckpointMetadata {
    /// Version of the file's layout.
    pub version: u32,
    /// Optimiser steps done.
    pub step: usize,
    /// The network.
    pub network: Config,
    /// The noise schedule it is trained with.
    pub schedule: NoiseSchedule,
    /// What it predicts; where it is not said, the noise.
    #[serde(default, skip_serializing_if = "PredictionType::is_noise")]
    pub prediction: PredictionType,
    /// First timestep that it is trained on, and the one after the last.
    #[serde(default = "all_timesteps")]
    pub interval: [i64; 2],
    /// Decays of the averages in the file.
    pub ema_decays: Vec<f64>,
    /// The latents it is trained on.
    pub latents: LatentSpace,
    /// Names of its classes, in the order of their numbers; empty where they are not named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// Whether another program has made it, so that `training` holds no more than its file says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
    /// How it is trained; read by training alone.
    pub training: serde_json::Value,
    /// Sums since the last line of the log; read by training alone.
    pub pending: serde_json::Value,
}

fn all_timesteps() -> [i64; 2] {
    [0, TIMESTEPS]
}

impl CheckpointMetadata {
    /// A description with the current version.
    pub fn new(
        step: usize,
        network: Config,
        schedule: NoiseSchedule,
        ema_decays: Vec<f64>,
        latents: LatentSpace,
    ) -> Self {
        let null = serde_json::Value::Null;
        Self {
            version: VERSION,
            step,
            network,
            schedule,
            prediction: PredictionType::Noise,
            interval: all_timesteps(),
            ema_decays,
            latents,
            class_names: Vec::new(),
            foreign: false,
            training: null.clone(),
            pending: null,
        }
    }
}

/// The name of a step's file: `step-00002000.safetensors`.
pub fn file_name(step: usize) -> String {
    format!("step-{step:08}.safetensors")
}

/// The checkpoints in a folder, by step.
///
/// # Errors
/// Bad input when the folder cannot be read.
pub fn list(folder: &Path) -> Result<BTreeMap<usize, PathBuf>> {
    let mut found = BTreeMap::new();
    let context = || format!("reading {}", folder.display());
    for entry in std::fs::read_dir(folder).bad_input(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().and_then(|n| n.to_str());
        let step = name.and_then(|n| n.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok());
        if let Some(step) = step {
            found.insert(step, path);
        }
    }
    Ok(found)
}

/// Whether a file says that it is a checkpoint of this program, or is too damaged to say anything.
///
/// # Errors
/// When it cannot be opened.
pub fn may_be_ours(path: &Path) -> Result<bool> {
    std::fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(weights::metadata(path).map_or(true, |metadata| metadata.contains_key(KEY)))
}

/// What a file of ours holds, from its head alone.
///
/// # Errors
/// Bad input when it is missing, or no checkpoint.
pub fn about(path: &Path) -> Result<CheckpointMetadata> {
    described(path, weights::metadata(path)?.get(KEY))
}

/// What is wrong with a file of ours, if anything: it is cut short, or something has changed in it since it was written. All of
/// it is read; files of the time before checksums are only held to their length.
///
/// # Errors
/// Bad input when it cannot be opened.
pub fn damage(path: &Path) -> Result<Option<String>> {
    weights::verify(path)
}

/// The checkpoint that `path` means: the file itself, or a folder's last step.
///
/// # Errors
/// Bad input when the folder has none.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    match list(path)?.into_values().next_back() {
        Some(last) => Ok(last),
        None => bad_input!("{}: no checkpoint (step-….safetensors) in this folder", path.display()),
    }
}

/// A checkpoint that has been read.
pub struct Checkpoint {
    /// What it holds.
    pub about: CheckpointMetadata,
    /// Its tensors, under the names in the file.
    pub weights: Weights,
    /// What people should know of how it was read.
    pub notices: Vec<String>,
}

impl Checkpoint {
    /// Reads a file, or a folder's last step.
    ///
    /// # Errors
    /// Bad input when it is missing, cut short, or no checkpoint.
    pub fn read(path: &Path) -> Result<Self> {
        Self::of(Weights::read(&resolve(path)?)?)
    }

    /// Whether a file's tensors are a checkpoint of this program.
    pub fn is_one(weights: &Weights) -> bool {
        weights.metadata().contains_key(KEY)
    }

    /// A file's tensors as a checkpoint.
    ///
    /// # Errors
    /// Bad input when they are none.
    pub fn of(weights: Weights) -> Result<Self> {
        let source = weights.source();
        let about = described(Path::new(source), weights.metadata().get(KEY))?;
        Ok(Self { about, weights, notices: Vec::new() })
    }

    /// The trained network itself (`decay` none) or one of its averages, for inference.
    ///
    /// # Errors
    /// Bad input when there is no such average, or a tensor is missing, misshapen or left over.
    pub fn network(&mut self, decay: Option<f64>, device: Device) -> Result<Network> {
        let prefix = match decay {
            None => "model.".to_string(),
            Some(decay) if self.about.ema_decays.contains(&decay) => average_prefix(decay),
            Some(decay) => bad_input!(
                "{}: no average with decay {decay}; there are {:?}",
                self.weights.source(),
                self.about.ema_decays
            ),
        };
        let weights = self.weights.split_off(&prefix);
        let network = Network::load(&self.about.network, weights, false, device);
        network.with_context(|| format!("taking the tensors {prefix}*"))
    }
}

impl Checkpoint {
    /// Puts a fresh table of labels in place of every one in it, for a network that differs in nothing else.
    pub fn renew_labels(&mut self, network: &Config, seed: u64) {
        let tables: Vec<String> =
            self.weights.names().filter(|name| name.ends_with(LABEL_TABLE)).map(String::from).collect();
        for name in tables {
            self.weights.insert(name, fresh_table(network, seed));
        }
        self.about.network = network.clone();
    }
}

/// Reads the description in a file's metadata.
fn described(path: &Path, text: Option<&String>) -> Result<CheckpointMetadata> {
    let Some(text) = text else {
        bad_input!("{}: no checkpoint of this program; its metadata lacks `{KEY}`", path.display())
    };
    let about: CheckpointMetadata =
        serde_json::from_str(text).bad_input(|| format!("reading {}", path.display()))?;
    if about.version != VERSION {
        bad_input!(
            "{}: version {} of the layout, this program reads {VERSION}",
            path.display(),
            about.version
        )
    }
    Ok(about)
}

/// The prefix of an average's tensors.
pub fn average_prefix(decay: f64) -> String {
    format!("ema.{decay}.")
}

/// Collects the tensors of a checkpoint.
#[derive(Default)]
pub struct Content(BTreeMap<String, Tensor>);

impl Content {
    /// Adds a network's state: the parts of `vector` in place of its trained parameters, its frozen ones, and the reference's
    /// buffers.
    pub fn state(&mut self, prefix: &str, network: &Network, flat: &Flat, vector: &Tensor) {
        let frozen = network.parameters().iter().filter(|p| !p.trained);
        let frozen = frozen.map(|p| (p.name.clone(), p.tensor.shallow_clone()));
        self.add(prefix, frozen.chain(network.buffers()).chain(flat.split(vector)));
    }

    /// Adds tensors under a prefix.
    pub fn add(&mut self, prefix: &str, tensors: impl IntoIterator<Item = (String, Tensor)>) {
        self.0.extend(tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
    }

    /// Writes the file, atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path, about: &CheckpointMetadata) -> Result<()> {
        self.write_marked(path, about, None)
    }

    /// The same with an entry in the metadata that says who has written it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_marked(
        &self,
        path: &Path,
        about: &CheckpointMetadata,
        mark: Option<(&str, &str)>,
    ) -> Result<()> {
        let mut metadata = BTreeMap::from([(KEY.to_string(), serde_json::to_string(about)?)]);
        metadata.extend(mark.map(|(name, value)| (name.to_string(), value.to_string())));
        weights::write(path, self.0.iter().map(|(name, tensor)| (name.clone(), tensor)), &metadata)
    }
}

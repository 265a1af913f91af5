//! Checkpoints of the reference implementation and of facebookresearch/DiT: read, and written under the same names.
//!
//! The reference saves a dictionary with the state dicts `model` and `ema`, AdamW's state `opt`, the log variances of uncertainty
//! weighting `uw` where it learns them, and its settings, which are left alone; facebookresearch/DiT publishes one bare state
//! dict. What we write also has our [`CheckpointMetadata`] as JSON under `about`.

mod optimiser;

use crate::Network;
use crate::checkpoint::{Checkpoint, CheckpointMetadata, LatentSpace, average_prefix};
use crate::config::{Allocation, Architecture, Config};
use crate::diffusion::NoiseSchedule;
use anyhow::{Context, Result};
use optimiser::{Optimiser, REFERENCE_LOG_VARIANCES};
use serde_json::json;
use stage::{BadInputExt, bad_input};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use tch::{Device, Kind, Tensor};
use weights::Weights;
use weights::pickle::{self, Item, Wanted};

/// The decay of the one average that the reference keeps.
const REFERENCE_DECAY: f64 = 0.9999;
/// What its latents, of Stable Diffusion's autoencoder, are multiplied by.
const REFERENCE_SCALE: f64 = 0.18215;
/// The key of [`CheckpointMetadata`] in a file of ours.
const ABOUT: &str = "about";

/// What the metadata of a converted file of our own form says, beside what a checkpoint's do.
const CONVERTED: (&str, &str) = ("made-by", "sample");

/// What the tensors of a foreign file do not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints {
    /// The noise schedule.
    pub schedule: Option<NoiseSchedule>,
    /// Attention heads; known without a hint where width and blocks are those of a preset.
    pub heads: Option<i64>,
}

impl Hints {
    /// Checks that a hint does not contradict a file that says it itself.
    ///
    /// # Errors
    /// Bad input that names the first contradiction.
    pub fn check(&self, about: &CheckpointMetadata, source: &str) -> Result<()> {
        if let Some(schedule) = self.schedule.filter(|s| *s != about.schedule) {
            bad_input!("{source}: trained with the schedule {}, not {schedule}", about.schedule)
        }
        if let Some(heads) = self.heads.filter(|h| *h != about.network.heads) {
            bad_input!("{source}: of {} heads, not {heads}", about.network.heads)
        }
        Ok(())
    }
}

/// Whether this is a file of `torch.save`.
pub fn is_pickle(path: &Path) -> bool {
    let mut start = Vec::new();
    let file = std::fs::File::open(path);
    file.is_ok_and(|f| f.take(64).read_to_end(&mut start).is_ok() && pickle::is_pickle(&start))
}

/// Reads a checkpoint of ours, a folder's last step, or the networks in a file of `torch.save`.
///
/// # Errors
/// Bad input when it is none of these, or does not say what the hints leave open.
pub fn read(path: &Path, hints: &Hints) -> Result<Checkpoint> {
    read_parts(path, hints, false)
}

/// The same with the optimiser's state, if the file has one.
///
/// # Errors
/// As [`read`], and when that state does not fit the network.
pub fn read_whole(path: &Path, hints: &Hints) -> Result<Checkpoint> {
    read_parts(path, hints, true)
}

fn read_parts(path: &Path, hints: &Hints, whole: bool) -> Result<Checkpoint> {
    if is_pickle(path) {
        return read_pickle(path, hints, whole);
    }
    let checkpoint = Checkpoint::read(path)?;
    hints.check(&checkpoint.about, checkpoint.weights.source())?;
    Ok(checkpoint)
}

fn read_pickle(path: &Path, hints: &Hints, whole: bool) -> Result<Checkpoint> {
    let states: &[&str] = if whole { &["model", "ema", "uw"] } else { &["model", "ema"] };
    let mut found =
        pickle::find(path, &Wanted { states, tree: if whole { "opt" } else { "" }, note: ABOUT })?;
    let source = path.display().to_string();
    let stored = &mut found.tensors;
    let (mut model, ema) = (stored.split_off("model."), stored.split_off("ema."));
    let averaged = ema.names().next().is_some();
    if !averaged && model.names().next().is_none() {
        model = std::mem::replace(stored, Weights::new(source.as_str(), BTreeMap::new()));
    }
    let mut about = match &found.note {
        Some(text) => {
            let about = serde_json::from_str(text).bad_input(|| format!("reading {source}: {ABOUT}"))?;
            hints.check(&about, &source)?;
            about
        }
        None => {
            let network = infer(if averaged { &ema } else { &model }, hints)?;
            let Some(schedule) = hints.schedule else {
                bad_input!("{source}: does not say its noise schedule; give --schedule cosine or linear")
            };
            let decays = if averaged { vec![REFERENCE_DECAY] } else { vec![] };
            let latents = LatentSpace { scale: REFERENCE_SCALE, vae: String::new() };
            CheckpointMetadata {
                foreign: true,
                ..CheckpointMetadata::new(0, network, schedule, decays, latents)
            }
        }
    };
    let optimiser = match whole && model.names().next().is_some() {
        true => Optimiser::take_torch(&mut found, &trained(&about, model.shallow_clone())?)?,
        false => None,
    };
    found.tensors.finish()?;
    if let Some(Optimiser { step, learning_rate, weight_decay, .. }) = &optimiser {
        if about.foreign {
            about.training = json!({"learning-rate": learning_rate, "weight-decay": weight_decay});
        }
        // Somebody may have trained on with torch and kept our note.
        if about.foreign || about.step != *step {
            (about.step, about.pending) = (*step, json!({}));
        }
    }
    let prefix = about.ema_decays.first().map(|decay| average_prefix(*decay)).unwrap_or_default();
    let mut tensors = optimiser.map(Optimiser::tensors).unwrap_or_default();
    for (weights, prefix) in [(model, "model."), (ema, &*prefix)] {
        let named = weights.into_tensors()?.into_iter();
        tensors.extend(named.map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
    }
    Ok(Checkpoint { about, weights: Weights::new(source, tensors) })
}

/// The network that is trained, which knows which of its parameters are.
fn trained(about: &CheckpointMetadata, model: Weights) -> Result<Network> {
    Network::load(&about.network, model, true, Device::Cpu).context("taking the tensors model.*")
}

/// The network that a state dict belongs to, from the shapes of its tensors and the reference's buffers.
fn infer(state: &Weights, hints: &Hints) -> Result<Config> {
    let source = state.source();
    let sizes = |name: &str, dimensions: usize| -> Result<Vec<i64>> {
        let size = telling(state, name)?.size();
        if size.len() != dimensions || size.contains(&0) {
            bad_input!("{source}: tensor {name} has shape {size:?}, wanted {dimensions} dimensions")
        }
        Ok(size)
    };
    let (tokens, width) = (sizes("pos_embed", 3)?[1], sizes("pos_embed", 3)?[2]);
    let projection = sizes("x_embedder.proj.weight", 4)?;
    let (channels, patch) = (projection[1], projection[2]);
    let grid = tokens.isqrt();
    if grid * grid != tokens {
        bad_input!("{source}: pos_embed has {tokens} tokens, which make no square")
    }
    let rows = sizes("y_embedder.embedding_table.weight", 2)?[0];
    let index = |name: &str| name.strip_prefix("blocks.")?.split('.').next()?.parse::<i64>().ok();
    let blocks = state.names().filter_map(index).max().map_or(0, |last| last + 1);
    let Some(heads) = hints.heads.or(Config::preset_heads(width, blocks)) else {
        bad_input!("{source}: width {width} and {blocks} blocks are no preset's; give --heads")
    };
    let side = grid * patch;
    let classes = if rows > 1 { rows - 1 } else { 1 };
    let mut config =
        Config { width, blocks, heads, patch, channels, ..Config::preset("dit-tiny/1", side, classes)? };
    // Ones in each row of a map of timesteps, as its mean: maps are equally full in all rows.
    let ones = |name: &str| -> Result<f64> {
        let rows = sizes(name, 2)?[0];
        Ok(telling(state, name)?.sum(Kind::Double).double_value(&[]) / rows as f64)
    };
    if state.has("routers.0._unit_mapping") {
        config.architecture = Architecture::Dtr;
        let kept = ones("routers.0._unit_mapping")?;
        if kept != (config.beta * width as f64).floor() {
            // The middle of what is cut down to this number of channels.
            config.beta = ((kept + 0.5) / width as f64).min(1.0);
        }
    } else if state.has("routers.0.experts.w") {
        config.architecture = Architecture::SwitchDit;
        config.experts = sizes("routers.0.experts.w", 3)?[0];
        config.top_k = (ones("prior._unit_mapping")? / blocks as f64).round() as i64;
        if state.has("routers.0.f_noise.1.weight") {
            config.allocation = Allocation::NoisyGate;
        }
    }
    config.check().with_context(|| format!("the network of {source}"))?;
    Ok(config)
}

/// A tensor that the network's sizes are read from.
fn telling<'a>(state: &'a Weights, name: &str) -> Result<&'a Tensor> {
    match state.get(name)? {
        Some(tensor) => Ok(tensor),
        None => bad_input!("{}: no tensor {name}, which says how large the network is", state.source()),
    }
}

/// Writes a checkpoint's weights, one of its averages, the first where `decay` names none, and the optimiser's state, if it has
/// one, as the reference would with `torch.save`. Numbers are kept bit for bit.
///
/// # Errors
/// Bad input when there is no such average, or a tensor is missing, misshapen or left over.
pub fn write(path: &Path, checkpoint: &mut Checkpoint, decay: Option<f64>) -> Result<()> {
    let Parts { about, states, optimiser } = parts(checkpoint, decay)?;
    let mut items = Vec::new();
    for (prefix, state) in &states {
        let name = if prefix == "model." { "model" } else { "ema" };
        items.push((name, Item::State(state.iter().map(|(n, t)| (n.clone(), t)).collect())));
    }
    let step = optimiser.as_ref().map(Optimiser::step_tensor);
    if let (Some(optimiser), Some(step)) = (&optimiser, &step) {
        items.push(("opt", optimiser.item(step)));
        let log_variances = optimiser
            .log_variances()
            .map(|log_variances| (REFERENCE_LOG_VARIANCES.to_string(), log_variances));
        items.extend(log_variances.map(|log_variances| ("uw", Item::State(vec![log_variances]))));
    }
    items.push((ABOUT, Item::Text(serde_json::to_string(&about)?)));
    pickle::write(path, &Item::named(items))
}

/// Writes the same as [`write()`] in our own form.
///
/// # Errors
/// As [`write()`].
pub fn write_native(path: &Path, checkpoint: &mut Checkpoint, decay: Option<f64>) -> Result<()> {
    let Parts { about, states, optimiser } = parts(checkpoint, decay)?;
    let mut content = crate::checkpoint::Content::default();
    for (prefix, state) in states {
        content.add(&prefix, state);
    }
    content.add("", optimiser.map(Optimiser::tensors).unwrap_or_default());
    content.write_marked(path, &about, Some(CONVERTED))
}

/// Whether a file is one that [`write()`] or [`write_native`] made.
pub fn is_converted(path: &Path) -> bool {
    if is_pickle(path) {
        let note = pickle::note(path, ABOUT).ok().flatten();
        return note.is_some_and(|text| serde_json::from_str::<CheckpointMetadata>(&text).is_ok());
    }
    let metadata = weights::metadata(path);
    metadata.is_ok_and(|metadata| metadata.get(CONVERTED.0).is_some_and(|by| by == CONVERTED.1))
}

/// What is written of a checkpoint, checked by loading it.
struct Parts {
    about: CheckpointMetadata,
    /// The weights and one average, by the prefix they have in our checkpoints.
    states: Vec<(String, BTreeMap<String, Tensor>)>,
    optimiser: Option<Optimiser>,
}

fn parts(checkpoint: &mut Checkpoint, decay: Option<f64>) -> Result<Parts> {
    let mut about = checkpoint.about.clone();
    let decay = decay.or(about.ema_decays.first().copied());
    about.ema_decays = decay.into_iter().collect();
    let (mut states, mut optimiser) = (Vec::new(), None);
    if checkpoint.weights.names().any(|name| name.starts_with("model.")) {
        let Checkpoint { about, weights } = checkpoint;
        let network = trained(about, weights.split_off("model."))?;
        states.push(("model.".to_string(), network.state()));
        optimiser = Optimiser::take(weights, &network, about.step, &about.training)?;
    }
    if let Some(decay) = decay {
        states.push((average_prefix(decay), checkpoint.network(Some(decay), Device::Cpu)?.state()));
    }
    Ok(Parts { about, states, optimiser })
}

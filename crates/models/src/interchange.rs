//! Checkpoints of the reference implementation and of facebookresearch/DiT: read, and written under the same names.
//!
//! The reference saves a dictionary with the state dicts `model` and `ema`, AdamW's state `opt`, the log variances of uncertainty
//! weighting `uw` where it learns them, and its settings, of which the schedule and the classes are read; facebookresearch/DiT
//! publishes one bare state dict. Others call the average differently, or wrap the names (`foreign`). What we write also has our [`CheckpointMetadata`] as JSON under `about`.

mod foreign;
mod infer;
mod optimiser;

use crate::Network;
use crate::checkpoint::{self, Checkpoint, CheckpointMetadata, LatentSpace, average_prefix};
use crate::diffusion::{NoiseSchedule, PredictionType};
use anyhow::{Context, Result};
use foreign::{Candidate, Chosen, Told};
use optimiser::{Optimiser, REFERENCE_LOG_VARIANCES};
use serde_json::json;
use stage::{BadInputExt, Value, bad_input};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::io::Read;
use std::path::Path;
use tch::{Device, Tensor};
use weights::Weights;
use weights::pickle::{self, Item, Outline, Wanted};

/// The decay of the one average that the reference keeps.
const REFERENCE_DECAY: f64 = 0.9999;
/// What its latents, of Stable Diffusion's autoencoder, are multiplied by.
const REFERENCE_SCALE: f64 = 0.18215;
/// The key of [`CheckpointMetadata`] in a file of ours.
const ABOUT: &str = "about";

/// What the metadata of a converted file of our own form says, beside what a checkpoint's do.
const CONVERTED: (&str, &str) = ("made-by", "sample");

/// Which weights of a checkpoint are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WeightSet {
    /// A moving average; the weights themselves where a file has none.
    #[default]
    Ema,
    /// The trained weights themselves.
    Model,
    /// Those under a key of another program's file.
    Key(String),
}

impl Display for WeightSet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ema => f.write_str("ema"),
            Self::Model => f.write_str("model"),
            Self::Key(key) => f.write_str(key),
        }
    }
}

impl Value for WeightSet {
    fn kind() -> stage::Kind {
        stage::Kind::Text
    }
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("give ema, model, or a key of the file".into()),
            "ema" => Ok(Self::Ema),
            "model" => Ok(Self::Model),
            key => Ok(Self::Key(key.into())),
        }
    }
    fn json(&self) -> serde_json::Value {
        self.to_string().into()
    }
}

/// What the tensors of a foreign file do not say.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// The noise schedule.
    pub schedule: Option<NoiseSchedule>,
    /// What the network predicts; the noise without a hint.
    pub prediction: Option<PredictionType>,
    /// Attention heads; known without a hint where width and blocks are those of a preset.
    pub heads: Option<i64>,
    /// Classes of another program's network, without a null label.
    pub classes: Option<i64>,
    /// Whether the table of labels is of no use, so that it may be of any size.
    pub any_classes: bool,
    /// Which weights, where there are several.
    pub weights: WeightSet,
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
        if let Some(prediction) = self.prediction.filter(|p| *p != about.prediction) {
            bad_input!("{source}: trained to predict {}, not {prediction}", about.prediction)
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

/// Reads a checkpoint of ours, a folder's last step, or the networks in a file of `torch.save` or in safetensors.
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
    let path = checkpoint::resolve(path)?;
    if is_pickle(&path) {
        return read_pickle(&path, hints, whole);
    }
    let weights = Weights::read(&path)?;
    if Checkpoint::is_one(&weights) {
        let checkpoint = Checkpoint::of(weights)?;
        hints.check(&checkpoint.about, checkpoint.weights.source())?;
        return Ok(checkpoint);
    }
    read_bare(weights, hints)
}

/// The networks in a file of `torch.save`.
fn read_pickle(path: &Path, hints: &Hints, whole: bool) -> Result<Checkpoint> {
    let source = path.display().to_string();
    let Outline { shapes, settings } = pickle::outline(path, &foreign::SETTINGS)?;
    let full = |dictionary: &str, name: &str| match dictionary {
        "" => name.to_string(),
        _ => format!("{dictionary}.{name}"),
    };
    let named: BTreeMap<String, &str> = shapes
        .iter()
        .flat_map(|(dictionary, inside)| {
            inside.keys().map(|name| (full(dictionary, name), dictionary.as_str()))
        })
        .collect();
    let found = foreign::candidates(named.keys().map(String::as_str));
    if found.is_empty() {
        let all =
            shapes.iter().flat_map(|(d, inside)| inside.iter().map(|(n, s)| (full(d, n), s.as_slice())));
        bad_input!("{source}: no network in it ({NO_NETWORK}); {}", foreign::contents(all))
    }
    let chosen = Chosen::of(&source, &found, &hints.weights)?;
    let mut states: Vec<&str> = [&chosen.model, &chosen.average]
        .into_iter()
        .flatten()
        .filter_map(|candidate| named.get(&format!("{}{}", candidate.prefix, foreign::SIGN)).copied())
        .collect();
    states.extend(whole.then_some("uw"));
    states.dedup();
    let mut found =
        pickle::find(path, &Wanted { states: &states, tree: if whole { "opt" } else { "" }, note: ABOUT })?;
    let about = match &found.note {
        Some(text) => Some(serde_json::from_str(text).bad_input(|| format!("reading {source}: {ABOUT}"))?),
        None => None,
    };
    let told = if about.is_some() { Told::default() } else { Told::read(&source, &settings)? };
    // Bare tensors have no prefix to know them by; these are not among them.
    let aside = ["opt.", "uw."].map(|prefix| (prefix, found.tensors.split_off(prefix)));
    let Taken { mut about, model, average, notices } =
        take(&mut found.tensors, &chosen, about, &told.with(hints, &source)?)?;
    for (prefix, weights) in aside {
        found.tensors.join(prefix, weights);
    }
    let optimiser = match whole && model.names().next().is_some() {
        true => Optimiser::take_torch(&mut found, &trained(&about, model.shallow_clone())?)?,
        false => None,
    };
    if whole {
        found.tensors.finish()?;
    }
    if let Some(Optimiser { step, learning_rate, weight_decay, .. }) = &optimiser {
        if about.foreign {
            about.training = json!({"learning-rate": learning_rate, "weight-decay": weight_decay});
        }
        // Somebody may have trained on with torch and kept our note.
        if about.foreign || about.step != *step {
            (about.step, about.pending) = (*step, json!({}));
        }
    }
    let optimiser = optimiser.map(Optimiser::tensors).unwrap_or_default();
    Ok(checkpoint_of(source, about, model, average, optimiser, notices))
}

/// The network in a file of bare tensors.
fn read_bare(mut weights: Weights, hints: &Hints) -> Result<Checkpoint> {
    let source = weights.source().to_string();
    let found = foreign::candidates(weights.names());
    if found.is_empty() {
        let names: Vec<&str> = weights.names().collect();
        let sizes: Vec<Vec<i64>> = names.iter().map(|n| weights.size(n).unwrap_or_default()).collect();
        let all = names.iter().map(|n| n.to_string()).zip(sizes.iter().map(Vec::as_slice));
        bad_input!("{source}: no checkpoint, and no network in it ({NO_NETWORK}); {}", foreign::contents(all))
    }
    let chosen = Chosen::of(&source, &found, &hints.weights)?;
    let Taken { about, model, average, notices } = take(&mut weights, &chosen, None, hints)?;
    Ok(checkpoint_of(source, about, model, average, BTreeMap::new(), notices))
}

const NO_NETWORK: &str = "no tensor pos_embed, which says how large one is";

/// What was taken of a foreign file.
struct Taken {
    about: CheckpointMetadata,
    model: Weights,
    average: Weights,
    notices: Vec<String>,
}

/// Takes the chosen networks; `about` is the file's own description.
fn take(
    tensors: &mut Weights,
    chosen: &Chosen,
    about: Option<CheckpointMetadata>,
    hints: &Hints,
) -> Result<Taken> {
    let source = tensors.source().to_string();
    let mut part = |candidate: &Option<Candidate>| match candidate {
        Some(candidate) => foreign::renamed(tensors.split_off(&candidate.prefix)),
        None => Weights::new(source.as_str(), BTreeMap::new()),
    };
    let (average, model) = (part(&chosen.average), part(&chosen.model));
    let averaged = chosen.average.is_some();
    let mut notices = Vec::new();
    let about = match about {
        Some(mut about) => {
            hints.check(&about, &source)?;
            if !averaged {
                about.ema_decays.clear();
            }
            about
        }
        None => {
            let network = infer::network(if averaged { &average } else { &model }, hints)?;
            let prediction = hints.prediction.unwrap_or_default();
            // A straight path has no schedule.
            let straight = (prediction == PredictionType::Velocity).then_some(NoiseSchedule::Cosine);
            let Some(schedule) = hints.schedule.or(straight) else {
                bad_input!("{source}: does not say its noise schedule; give --schedule cosine or linear")
            };
            notices.push(format!("{source}: {}, of {}", chosen.told(), infer::labels(&network)));
            let decays = if averaged { vec![REFERENCE_DECAY] } else { vec![] };
            let latents = LatentSpace::scaled(REFERENCE_SCALE, "");
            CheckpointMetadata {
                foreign: true,
                prediction,
                ..CheckpointMetadata::new(0, network, schedule, decays, latents)
            }
        }
    };
    Ok(Taken { about, model, average, notices })
}

fn checkpoint_of(
    source: String,
    about: CheckpointMetadata,
    model: Weights,
    average: Weights,
    optimiser: BTreeMap<String, Tensor>,
    notices: Vec<String>,
) -> Checkpoint {
    let prefix = about.ema_decays.first().map(|decay| average_prefix(*decay)).unwrap_or_default();
    let mut weights = Weights::new(source, optimiser);
    weights.join("model.", model);
    weights.join(&prefix, average);
    Checkpoint { about, weights, notices }
}

/// The network that is trained, which knows which of its parameters are.
fn trained(about: &CheckpointMetadata, model: Weights) -> Result<Network> {
    Network::load(&about.network, model, true, Device::Cpu).context("taking the tensors model.*")
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
        let Checkpoint { about, weights, .. } = checkpoint;
        let network = trained(about, weights.split_off("model."))?;
        states.push(("model.".to_string(), network.state()));
        optimiser = Optimiser::take(weights, &network, about.step, &about.training)?;
    }
    if let Some(decay) = decay {
        states.push((average_prefix(decay), checkpoint.network(Some(decay), Device::Cpu)?.state()));
    }
    Ok(Parts { about, states, optimiser })
}

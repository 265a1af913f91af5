//! The networks that are sampled as one: mostly one for all timesteps, else one for each interval of them (multi-experts).

use crate::Args;
use anyhow::{Context, Result};
use models::Network;
use models::checkpoint::{self, Checkpoint, CheckpointMetadata};
use models::config::TIMESTEPS;
use models::interchange::{self, WeightSet};
use stage::{BadInputExt, bad_input};
use std::path::{Path, PathBuf};
use tch::Device;

/// One network and what is known of it.
struct Expert {
    about: CheckpointMetadata,
    network: Network,
    source: String,
    digest: String,
    notices: Vec<String>,
}

/// Networks whose intervals make up all timesteps, in their order.
pub struct Experts(Vec<Expert>);

impl Experts {
    /// Reads what `--checkpoints` names: a checkpoint, a folder of them, or a folder with one such for each interval.
    ///
    /// # Errors
    /// Bad input when a file does not fit, when the networks are of different kinds, or when they leave timesteps out.
    pub fn read(args: &Args, device: Device) -> Result<Self> {
        let mut experts = paths(&args.checkpoints)?
            .iter()
            .map(|path| Expert::read(args, path, device))
            .collect::<Result<Vec<_>>>()?;
        experts.sort_by_key(|e| e.about.interval);
        let mut covered = 0;
        for expert in &experts {
            let [from, to] = expert.about.interval;
            if from != covered {
                let name = args.checkpoints.display();
                bad_input!(
                    "{name}: {}; the networks that are sampled as one divide the {TIMESTEPS} timesteps among them",
                    gap(covered, from, &expert.source)
                )
            }
            covered = to;
        }
        if covered != TIMESTEPS {
            bad_input!(
                "{}: no network is trained on timesteps {covered} to {}",
                args.checkpoints.display(),
                TIMESTEPS - 1
            )
        }
        let first = &experts[0];
        for other in &experts[1..] {
            let kind = |e: &Expert| {
                let CheckpointMetadata { network, schedule, prediction, latents, .. } = &e.about;
                (network.side, network.channels, network.classes, *schedule, *prediction, latents.clone())
            };
            if kind(first) != kind(other) {
                bad_input!(
                    "{} and {} differ in latents, classes, schedule or prediction",
                    first.source,
                    other.source
                )
            }
        }
        Ok(Self(experts))
    }

    /// The description of the first of what `--checkpoints` names, of which no tensor is read.
    ///
    /// # Errors
    /// Bad input when its file does not fit.
    pub fn described(args: &Args) -> Result<CheckpointMetadata> {
        let first = paths(&args.checkpoints)?.into_iter().next();
        let checkpoint = interchange::read(&first.context("a checkpoint")?, &args.hints())?;
        of_classes(args, &checkpoint)?;
        Ok(checkpoint.about)
    }

    /// The description of the first; all agree in what sampling asks for.
    pub fn about(&self) -> &CheckpointMetadata {
        &self.0[0].about
    }

    /// Where the first comes from, for errors.
    pub fn source(&self) -> &str {
        &self.0[0].source
    }

    /// What people should know of how they were read.
    pub fn notices(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|e| &e.notices).map(String::as_str)
    }

    /// What identifies them all.
    pub fn digests(&self) -> Vec<&str> {
        self.0.iter().map(|e| e.digest.as_str()).collect()
    }

    /// The networks, and which of them serves timestep `t`.
    pub fn into_networks(self) -> (Vec<Network>, impl Fn(i64) -> usize) {
        let ends: Vec<i64> = self.0.iter().map(|e| e.about.interval[1]).collect();
        let networks = self.0.into_iter().map(|e| e.network).collect();
        (networks, move |t| ends.partition_point(|end| *end <= t))
    }
}

fn gap(covered: i64, from: i64, source: &str) -> String {
    if from > covered {
        format!("no network is trained on timesteps {covered} to {}", from - 1)
    } else {
        format!("{source} begins at timestep {from}, which another network has")
    }
}

impl Expert {
    fn read(args: &Args, path: &Path, device: Device) -> Result<Self> {
        let mut checkpoint = interchange::read(path, &args.hints())?;
        let about = checkpoint.about.clone();
        of_classes(args, &checkpoint)?;
        let decay = match &args.weights {
            WeightSet::Key(key) if !about.foreign => {
                bad_input!("{}: --weights {key}: it has ema and model", checkpoint.weights.source())
            }
            WeightSet::Model | WeightSet::Key(_) => None,
            // A file of bare weights has one set, whatever is asked for.
            WeightSet::Ema => args.ema_decay.or(about.ema_decays.first().copied()),
        };
        let network = checkpoint.network(decay, device)?;
        let digest = stage::digest(path)?;
        let digest = match &args.weights {
            WeightSet::Key(key) => format!("{digest} {key}"),
            _ => decay.map_or(digest.clone(), |decay| format!("{digest} ema {decay}")),
        };
        let (source, notices) = (checkpoint.weights.source().into(), checkpoint.notices);
        Ok(Self { source, about, network, digest, notices })
    }
}

/// Whether a checkpoint has the classes that `--classes` says.
fn of_classes(args: &Args, Checkpoint { about, weights, .. }: &Checkpoint) -> Result<()> {
    match args.classes.filter(|classes| *classes != about.network.classes) {
        Some(classes) => {
            bad_input!("{}: of {} classes, not {classes}", weights.source(), about.network.classes)
        }
        None => Ok(()),
    }
}

/// The files that hold the networks.
fn paths(given: &Path) -> Result<Vec<PathBuf>> {
    if !given.is_dir() || !checkpoint::list(given)?.is_empty() {
        return Ok(vec![checkpoint::resolve(given)?]);
    }
    let context = || format!("reading {}", given.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(given).bad_input(context)? {
        let path = entry.with_context(context)?.path();
        let is_file = path.extension().is_some_and(|e| e == "safetensors" || e == "pt" || e == "pth");
        if is_file || path.is_dir() && !checkpoint::list(&path)?.is_empty() {
            found.push(checkpoint::resolve(&path)?);
        }
    }
    if found.is_empty() {
        // Says what a folder of checkpoints has.
        checkpoint::resolve(given)?;
    }
    found.sort();
    Ok(found)
}

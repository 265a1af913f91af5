//! What a checkpoint says of its network, and of its gates where it has some.

use crate::document::{Block, Kind, Section, grouped};
use crate::gating;
use crate::provenance;
use anyhow::Result;
use models::Network;
use models::analysis::Gating;
use models::checkpoint::CheckpointMetadata;
use models::interchange::{self, Hints};
use std::path::Path;
use tch::Device;

/// What a checkpoint says.
pub struct Shown {
    /// Its metadata.
    pub about: CheckpointMetadata,
    /// The sections on it.
    pub sections: Vec<Section>,
    /// The files beside them.
    pub files: gating::Files,
}

/// A network as it is shown: with its first moving average, which samples are drawn from by default, else as it was trained.
pub struct Loaded {
    /// What its checkpoint says of it.
    pub about: CheckpointMetadata,
    /// The network itself.
    pub network: Network,
}

impl Loaded {
    /// Reads a checkpoint.
    ///
    /// # Errors
    /// Bad input when it cannot be read.
    pub fn read(path: &Path, hints: &Hints) -> Result<Self> {
        // The table of labels is only loaded.
        let mut checkpoint = interchange::read(path, &Hints { any_classes: true, ..hints.clone() })?;
        let about = checkpoint.about.clone();
        let network = checkpoint.network(about.ema_decays.first().copied(), Device::Cpu)?;
        Ok(Self { about, network })
    }

    /// Which weights these are.
    fn weights(&self) -> String {
        match self.about.ema_decays.first() {
            Some(decay) => format!("moving average, decay {decay}"),
            None => "as trained".into(),
        }
    }
}

/// The network's own section, and its gates' where it has some.
///
/// # Errors
/// Bad input when the checkpoint cannot be read.
pub fn shown(path: &Path, hints: &Hints, timesteps: &[f64]) -> Result<Shown> {
    let loaded = Loaded::read(path, hints)?;
    let weights = loaded.weights();
    let Loaded { about, network } = loaded;
    let step = grouped(about.step as i64);
    let (mut sections, mut files) = (Vec::new(), gating::Files::new());
    if let Some(gating) = Gating::of(&network) {
        let known = gating::Known {
            source: format!("the weights of step {step} ({weights})"),
            allocation: about.network.allocation,
            trained: about.training.pointer("/objective/gating").and_then(|g| g.as_str()),
        };
        let (section, pictures) = gating::section(&gating, timesteps, &known)?;
        sections.push(section);
        files = pictures;
    }
    let mut section = Section::new("Network");
    let caption = format!("The network, as its checkpoint of step {step} describes it.");
    let mut table = provenance::table(&caption, &serde_json::to_value(&about.network)?);
    table.row(["`schedule`".into(), about.schedule.to_string()]);
    let values: i64 = network.parameters().iter().map(|p| p.tensor.numel() as i64).sum();
    table.row(["parameters".into(), grouped(values)]);
    table.row(["weights shown".into(), weights]);
    table.kind = Kind::Settings;
    section.blocks.push(Block::Table(table));
    sections.push(section);
    Ok(Shown { about, sections, files })
}

//! What a session works with: steps that are known, units that may run, programs.

use crate::action::Action;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use store::digest::Digest;
use store::{Key, Member, Produced, name};

/// The outputs of a step that is done, and how they came about.
#[derive(Clone, Debug)]
pub struct Known {
    pub outputs: BTreeMap<String, Produced>,
    /// Outputs that `--with` replaced.
    pub replaced: Vec<String>,
    /// Of each unit, with the name of its entry where there are several.
    pub actions: Vec<(Option<String>, Action)>,
}

/// One action of a step.
#[derive(Clone, Debug)]
pub struct Unit {
    pub step: usize,
    /// The step's name, with the instance where there are several: `score[step-00002000]`.
    pub label: String,
    pub instance: Option<Instance>,
    pub action: Action,
    pub key: Key,
}

/// The entry that a mapped step runs over.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name without an ending, as text.
    pub name: String,
    /// The same, as it is: outputs are published under it.
    pub stem: OsString,
    /// Its whole name, as text: the stage sees it under this.
    pub file: String,
}

impl Instance {
    /// One of the shards of a stage.
    pub fn shard(name: String) -> Self {
        Self { stem: name.clone().into(), file: name.clone(), name }
    }

    /// An entry of a folder.
    pub fn of(entry: &Member) -> Self {
        Self { name: name::text(&entry.name), stem: entry.name.clone(), file: name::text(&entry.file) }
    }
}

impl Unit {
    pub fn new(step: usize, label: String, instance: Option<Instance>, action: Action) -> Self {
        let key = action.key();
        Self { step, label, instance, action, key }
    }
}

/// The program of a step.
#[derive(Clone, Debug)]
pub struct Program {
    /// Absolute.
    pub path: PathBuf,
    pub digest: Digest,
    /// Every parameter in use, defaults included.
    pub params: BTreeMap<String, String>,
}

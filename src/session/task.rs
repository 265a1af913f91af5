//! What a session works with: steps that are known, tasks that may run, programs.

use crate::action::Action;
use crate::cache::results::{ActionResult, Ran};
use crate::name_map::NameMap;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::digest::Digest;
use store::ignore::Ignore;
use store::{Key, Produced, name};

/// The outputs of a step that is done, and how they came about.
#[derive(Clone, Debug)]
pub struct StepOutputs {
    pub outputs: NameMap<Produced>,
    /// Outputs that `--with` replaced.
    pub replaced: Vec<String>,
    /// What each of its tasks gave.
    pub actions: Vec<Made>,
}

/// A task that is done.
#[derive(Clone, Debug)]
pub struct Made {
    /// The name of its entry where there are several.
    pub entry: Option<String>,
    pub action: Arc<Action>,
    /// Seconds since 1970 when it was done, and how long its program ran.
    pub finished: u64,
    pub seconds: f64,
    /// Where, and with what.
    pub ran: Option<Arc<Ran>>,
}

impl Made {
    /// What a task gave.
    pub fn new(task: &Task, result: &ActionResult) -> Self {
        Self {
            entry: task.instance.as_ref().map(|i| i.name.clone()),
            action: Arc::clone(&task.action),
            finished: result.finished,
            seconds: result.seconds,
            ran: result.ran.clone(),
        }
    }
}

/// One action of a step.
#[derive(Clone, Debug)]
pub struct Task {
    pub step: usize,
    /// The step's name, with the instance where there are several: `score[step-00002000]`.
    pub label: String,
    /// The entry that a mapped step runs over.
    pub instance: Option<Instance>,
    pub inputs: Vec<Input>,
    pub action: Arc<Action>,
    pub key: Key,
}

/// One input of an action, as everybody who deals with it sees it.
#[derive(Clone, Debug)]
pub struct Input {
    pub name: String,
    pub digest: Digest,
    pub place: Place,
    /// The file name by which the stage sees it; `None` where it sees a name of the store's.
    pub file: Option<String>,
}

/// A path by which a person knows an output.
#[derive(Clone, Debug, PartialEq)]
pub struct Called {
    /// From the study's root, unless it was typed.
    pub path: PathBuf,
    pub typed: bool,
}

/// Where an input lies.
#[derive(Clone, Debug)]
pub enum Place {
    /// At a path of the study, from its root or absolute; of a folder with what does not count.
    Study(PathBuf, Ignore),
    /// In the store.
    Store,
}

/// An entry that a mapped step runs over, or a shard.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name without an ending, as text.
    pub name: String,
    /// The same, as it is: outputs are published under it.
    pub stem: OsString,
}

impl Instance {
    /// The one of this name.
    pub fn new(stem: OsString) -> Self {
        Self { name: name::text(&stem), stem }
    }

    /// Its name in the folder that an output of this file name is published as.
    pub fn published(&self, file: &str) -> OsString {
        let mut name = self.stem.clone();
        if let Some(ending) = Path::new(file).extension() {
            name.push(".");
            name.push(ending);
        }
        name::fit(&name, name::LONGEST)
    }
}

impl Task {
    /// The action of a step on these inputs.
    pub fn new(
        step: usize,
        label: String,
        instance: Option<Instance>,
        inputs: Vec<Input>,
        mut action: Action,
    ) -> Self {
        action.inputs = inputs.iter().map(|i| (i.name.clone(), i.digest)).collect();
        let named = inputs.iter().filter_map(|i| Some((i.name.clone(), i.file.clone()?)));
        action.names = named.collect();
        let key = action.key();
        Self { step, label, instance, inputs, action: Arc::new(action), key }
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
    /// What parameters count, of those that count something.
    pub units: BTreeMap<String, String>,
}

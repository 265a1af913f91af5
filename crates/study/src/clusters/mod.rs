//! Batch systems that are told by four commands what to do: of a preset, of the study, of a stage.

pub(crate) mod keys;
pub mod presets;

use crate::de::Marked;
use crate::error::{Error, Result, hint};
use crate::mark::Mark;
use crate::shell;
use crate::template::{Group, Part};
use keys::{ClusterKeys, ClusterSaid, StateKeys};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What `submit` is told of a job. What is not known, or not asked for, is empty.
pub const PLACES: [(&str, &str); 13] = [
    ("name", "the job's name, which no other has: letters, digits, `.`, `-` and `_`"),
    (
        "worker",
        "the program that is to be started on the node, or once on each: a path, which takes no arguments",
    ),
    ("log", "the file for what the job says before the stage has its log"),
    ("root", "the study's folder, in which the job is to be started"),
    ("array", "the numbers of an array's tasks, as `1-8`; empty for a single job"),
    ("tasks", "how many tasks the array has; empty for a single job"),
    ("nodes", "how many nodes the job is to have, where they are several"),
    ("cpus", "cores of the job on each node"),
    ("gpus", "GPUs of the job on each node"),
    ("memory", "memory of the job on each node, in MiB"),
    ("time", "longest time of the job, as `1:30:00`"),
    ("seconds", "the same in seconds"),
    ("stage", "the stage's name"),
];

/// What a state means for whoever waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It waits.
    Pending,
    /// It is on a node.
    Running,
    /// It is over, well or not.
    Ended,
    /// Somebody cancelled it.
    Cancelled,
    /// Its time was over.
    Timeout,
    /// It had too little memory.
    Memory,
    /// The cluster took its node away, and does not start it again.
    Again,
    /// It cannot begin, and stays until it is cancelled.
    Stuck,
}

impl State {
    const NAMES: [(&'static str, Self); 8] = [
        ("pending", Self::Pending),
        ("running", Self::Running),
        ("ended", Self::Ended),
        ("cancelled", Self::Cancelled),
        ("timeout", Self::Timeout),
        ("memory", Self::Memory),
        ("again", Self::Again),
        ("stuck", Self::Stuck),
    ];
}

/// One of the four commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Submits a job or an array.
    Submit,
    /// Asks about jobs.
    Ask,
    /// Tells jobs that they are to save and stop.
    Signal,
    /// Ends jobs.
    Cancel,
}

impl Act {
    /// The key in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Ask => "ask",
            Self::Signal => "signal",
            Self::Cancel => "cancel",
        }
    }
}

/// A cluster, resolved. It stands in the attempts whose jobs it has, for whoever comes after a killed runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cluster {
    /// What it is called in messages.
    pub name: String,
    /// The study's folder, in which its commands are called.
    pub root: PathBuf,
    submit: String,
    ask: String,
    signal: Option<String>,
    cancel: String,
    states: BTreeMap<String, State>,
    /// How many tasks an array may have.
    pub array: u32,
    /// The variable in which a task finds its number.
    pub index: Option<String>,
    /// The number of an array's first task.
    pub first: u32,
    /// What is complained of when there are too many jobs now.
    pub busy: Vec<String>,
    /// Further words for `submit`.
    pub options: Vec<String>,
    /// Longest time of a job.
    pub time: Option<Duration>,
    /// How often is asked about all jobs together.
    pub interval: Duration,
    /// Jobs that are submitted at a time.
    pub max_submitted: Option<usize>,
}

impl Cluster {
    /// The words of a command; `value` has what is to be filled in, `arguments` follow. `None` where there is no such
    /// command.
    pub fn command(
        &self,
        act: Act,
        value: impl Fn(&str) -> String,
        arguments: &[String],
    ) -> Option<Vec<String>> {
        let script = match act {
            Act::Submit => &self.submit,
            Act::Ask => &self.ask,
            Act::Signal => self.signal.as_ref()?,
            Act::Cancel => &self.cancel,
        };
        // It was read when the cluster was resolved.
        let words = shell::parse_for_cluster(act.name(), script).ok()?;
        let filled = words.iter().map(|word| {
            let parts = word.0.iter().map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Slot(_, name) => value(name),
            });
            parts.collect()
        });
        Some(filled.chain(arguments.iter().cloned()).collect())
    }

    /// The script of `submit` as it would be called, for people: values stand in their places, further words behind.
    pub fn shown(&self, value: impl Fn(&str) -> String) -> String {
        let words = shell::parse_for_cluster(Act::Submit.name(), &self.submit).unwrap_or_default();
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let mut text = self.submit.clone();
        for part in words.iter().flat_map(|word| &word.0) {
            if let Part::Slot(_, name) = part {
                text = text.replace(&format!("${{job.{name}}}"), &quoted(&value(name)));
            }
        }
        if !self.options.is_empty() {
            let options: Vec<String> = self.options.iter().map(|option| quoted(option)).collect();
            text = format!("set -- {}\n{text}", options.join(" "));
        }
        text
    }

    /// Whether its jobs may have several nodes.
    pub fn has_nodes(&self) -> bool {
        names(&self.submit, "nodes")
    }

    /// What a state means, where that is known; its own words are always.
    pub fn state(&self, text: &str) -> Option<State> {
        let own = || State::NAMES.iter().find(|(name, _)| *name == text).map(|(_, state)| *state);
        self.states.get(text).copied().or_else(own)
    }
}

/// The cluster of a stage: what it says itself over what the study says, or alone where it names a preset.
///
/// # Errors
/// What is wrong, with its line.
pub fn of(
    study: Option<&Marked<ClusterSaid>>,
    stage: Option<&Marked<ClusterSaid>>,
    root: &Path,
) -> Result<Option<Arc<Cluster>>> {
    let Some(last) = stage.or(study) else { return Ok(None) };
    let alone = stage.is_some_and(|said| preset(said).is_some());
    let mut layers = Vec::new();
    for said in [study.filter(|_| !alone), stage].into_iter().flatten() {
        if let Some((name, mark)) = preset(said) {
            let found = presets::find(name, root, mark)?;
            layers.push(found.keys()?);
        }
        if let ClusterSaid::Keys(keys) = &said.value {
            layers.push((**keys).clone());
        }
    }
    let named = stage.into_iter().chain(study).find_map(preset).map(|(name, _)| name);
    let keys = layers.into_iter().fold(ClusterKeys::default(), over);
    resolve(named.unwrap_or("of the study"), &keys, root, &last.mark).map(|cluster| Some(Arc::new(cluster)))
}

/// The preset that is named.
fn preset(said: &Marked<ClusterSaid>) -> Option<(&str, &Mark)> {
    match &said.value {
        ClusterSaid::Name(name) => Some((name, &said.mark)),
        ClusterSaid::Keys(keys) => keys.preset.as_ref().map(|preset| (preset.as_str(), &preset.mark)),
    }
}

/// Puts keys over others; words for `submit`, and what it complains of, are added.
fn over(base: ClusterKeys, over: ClusterKeys) -> ClusterKeys {
    ClusterKeys {
        preset: None,
        about: None,
        submit: over.submit.or(base.submit),
        ask: over.ask.or(base.ask),
        signal: over.signal.or(base.signal),
        cancel: over.cancel.or(base.cancel),
        states: over.states.or(base.states),
        array: over.array.or(base.array),
        index: over.index.or(base.index),
        first: over.first.or(base.first),
        busy: base.busy.into_iter().chain(over.busy).collect(),
        options: base.options.into_iter().chain(over.options).collect(),
        time: over.time.or(base.time),
        interval: over.interval.or(base.interval),
        max_submitted: over.max_submitted.or(base.max_submitted),
    }
}

/// Reads the commands and what belongs to them; `mark` is where the cluster is named.
fn resolve(name: &str, keys: &ClusterKeys, root: &Path, mark: &Mark) -> Result<Cluster> {
    let needed = |act: Act, script: &Option<Marked<String>>| {
        let text = || {
            format!(
                "the cluster has no `{}`; it needs `submit`, `ask` and `cancel`, or the `preset` of one that has them",
                act.name()
            )
        };
        script.as_ref().ok_or_else(|| Error::mistake(mark, text())).and_then(|script| check(act, script))
    };
    let at_least_one = |value: &Option<Marked<u32>>, text: &str| match value {
        Some(value) if **value == 0 => Err(Error::mistake(&value.mark, text)),
        value => Ok(value.as_ref().map(|value| **value)),
    };
    let array =
        at_least_one(&keys.array, "an array of 0 tasks is none; leave `array` out where there are none")?;
    let array = array.unwrap_or(1);
    let submit = needed(Act::Submit, &keys.submit)?;
    if let Some(given) = keys.array.as_ref().filter(|_| array > 1) {
        if !["array", "tasks"].iter().any(|place| names(&submit, place)) {
            let text =
                "`submit` names neither ${job.array} nor ${job.tasks}, so an array would be a single job";
            return Err(Error::mistake(&given.mark, text));
        }
        if keys.index.is_none() {
            let text = "`array` needs `index`, the variable in which a task finds its number";
            return Err(Error::mistake(&given.mark, text));
        }
    }
    if let Some(index) = keys.index.as_ref().filter(|index| !is_variable(index)) {
        let text = format!("`{}` is no name of an environment variable", **index);
        return Err(Error::mistake(&index.mark, text));
    }
    let most = at_least_one(&keys.max_submitted, "with `max-submitted: 0` no job could ever be submitted")?;
    let plain = |texts: &[Marked<String>]| texts.iter().map(|text| text.value.clone()).collect();
    if let Some(text) = keys.busy.iter().find(|text| text.trim().is_empty()) {
        return Err(Error::mistake(&text.mark, "an empty text is in every complaint"));
    }
    Ok(Cluster {
        name: name.into(),
        root: root.into(),
        submit,
        ask: needed(Act::Ask, &keys.ask)?,
        signal: keys.signal.as_ref().map(|script| check(Act::Signal, script)).transpose()?,
        cancel: needed(Act::Cancel, &keys.cancel)?,
        states: keys.states.as_ref().map_or_else(|| Ok(BTreeMap::new()), states)?,
        array,
        index: keys.index.as_ref().map(|index| index.value.clone()),
        first: keys.first.as_ref().map_or(1, |first| **first),
        busy: plain(&keys.busy),
        options: plain(&keys.options),
        time: keys.time.map(|time| time.0),
        interval: keys.interval.map_or(Duration::from_secs(10), |time| time.0),
        max_submitted: most.map(|most| most as usize),
    })
}

/// Whether a script has a place.
fn names(script: &str, place: &str) -> bool {
    let words = shell::parse_for_cluster("", script).unwrap_or_default();
    words.iter().flat_map(|word| &word.0).any(|part| *part == Part::Slot(Group::Job, place.into()))
}

/// Reads a command, which can do what it is for.
fn check(act: Act, script: &Marked<String>) -> Result<String> {
    let wrong = |text: String| Err(Error::mistake(&script.mark, format!("`{}`: {text}", act.name())));
    let words = match shell::parse_for_cluster(act.name(), script) {
        Ok(words) => words,
        Err(text) => return wrong(text),
    };
    for part in words.iter().flat_map(|word| &word.0) {
        let Part::Slot(_, name) = part else { continue };
        if act != Act::Submit {
            return wrong(format!("only `submit` has ${{job.{name}}}; the ids of jobs are \"$@\""));
        }
        if !PLACES.iter().any(|(place, _)| place == name) {
            let near = hint(name, PLACES.iter().map(|(place, _)| *place));
            return wrong(format!("there is no ${{job.{name}}}{near}"));
        }
    }
    match act {
        Act::Submit if !names(script, "worker") => {
            wrong("it never names ${job.worker}, so its jobs would do nothing".into())
        }
        Act::Signal | Act::Cancel if !["$@", "$*", "$1"].iter().any(|ids| script.contains(ids)) => {
            wrong("it never names \"$@\", the ids of the jobs that it is about".into())
        }
        _ => Ok(script.value.clone()),
    }
}

/// What each state means; none means two things.
fn states(keys: &StateKeys) -> Result<BTreeMap<String, State>> {
    let lists = [
        &keys.pending,
        &keys.running,
        &keys.ended,
        &keys.cancelled,
        &keys.timeout,
        &keys.memory,
        &keys.again,
        &keys.stuck,
    ];
    let mut all = BTreeMap::new();
    for ((_, meaning), list) in State::NAMES.into_iter().zip(lists) {
        for state in list {
            if state.is_empty() || state.contains(char::is_whitespace) {
                let text = format!("`{}` is no state: `ask` prints it as one word", **state);
                return Err(Error::mistake(&state.mark, text));
            }
            if all.insert(state.value.clone(), meaning).is_some_and(|other| other != meaning) {
                return Err(Error::mistake(&state.mark, format!("`{}` is in another list already", **state)));
            }
        }
    }
    Ok(all)
}

fn is_variable(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(plain)
}

#[cfg(test)]
mod tests;

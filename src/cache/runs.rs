//! What became of a run and of each of its stages.

use crate::cache::error::{Error, Result};
use crate::cache::facts::Facts;
use crate::cache::failure::{Failure, TaskFailure};
use crate::name_map::NameMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;
use store::{Area, Key, Store, record};
use study::{Processes, hint};

/// What became of a stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It was there already.
    Cached,
    /// An older result was put back.
    Restored,
    /// The shared cache had it.
    Fetched,
    Ran,
    /// `--with` stood in for it.
    Replaced,
    Failed,
    /// It needs a stage that failed, or the run was stopped before.
    #[default]
    Skipped,
}

/// One line of the summary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    pub stage: String,
    #[serde(rename = "fate", alias = "status")]
    pub status: Status,
    /// Why it ran, or why it failed.
    pub reason: String,
    /// Action keys, when they became known: one, or one for each entry of a mapped stage.
    pub keys: Vec<Key>,
    /// How long its program ran, in this run or when it was made.
    pub seconds: Option<f64>,
    pub outputs: NameMap<store::Produced>,
    /// The variants that it belongs to; the empty name is the study as it stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<String>,
    /// Every parameter in use.
    #[serde(default, skip_serializing_if = "NameMap::is_empty")]
    pub params: NameMap<String>,
    /// The numbers in the outputs that the study shows.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metrics: Map<String, Value>,
    /// As how many processes it was made, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<Processes>,
    /// What its program said that it ran with: `device`, `libtorch`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reported: BTreeMap<String, String>,
    /// What went wrong with each of its tasks that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailedTask>,
}

/// A task that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedTask {
    /// The stage's name, with the entry where there are several.
    pub task: String,
    #[serde(flatten)]
    pub how: TaskFailure,
}

/// A run and what came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Name of the run; its logs lie in `.pipeline/logs/RUN`.
    pub run: String,
    pub study: String,
    /// Seconds since 1970.
    pub started: u64,
    pub finished: u64,
    pub stages: Vec<StageReport>,
    /// What a person calls it, and says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What the command line asked for.
    #[serde(default)]
    pub asked: Asked,
    /// The machine of the runner, and the study's commit.
    #[serde(default, flatten)]
    pub facts: Facts,
    /// Version of the runner.
    #[serde(default)]
    pub runner: String,
    /// Every attempt, in the order in which they ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptReport>,
    /// Why it could not go on, where that was no stage's failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a command line asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// The study file.
    pub file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<String>,
}

/// One attempt at a task, or at the build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptReport {
    pub task: String,
    /// From 1.
    pub attempt: u32,
    /// Seconds since 1970.
    pub started: u64,
    pub seconds: f64,
    /// The exit code, where the program ended by itself.
    pub exit: Option<u8>,
    /// Why it gave no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The most memory that one of its processes held, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// The GPUs it had, as `CUDA_VISIBLE_DEVICES` names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// Who started it: `local`, `slurm`.
    pub engine: String,
    pub host: String,
}

impl Report {
    /// In one word, for people.
    pub fn result(&self) -> &'static str {
        let any = |status: Status| self.stages.iter().any(|row| row.status == status);
        match () {
            () if self.error.is_some() || any(Status::Failed) => "failed",
            () if any(Status::Skipped) => "stopped",
            () => "done",
        }
    }
}

/// The records of all past runs, the oldest first. A damaged one is left out.
pub fn all(store: &Store) -> Vec<Report> {
    let mut names = names(store);
    names.sort();
    names.iter().filter_map(|name| record::read(&store.run(name))).collect()
}

fn names(store: &Store) -> Vec<String> {
    let names = store.list(Area::Runs).into_iter().filter_map(|path| {
        let file = path.file_name()?.to_str()?.to_string();
        file.strip_suffix(".json").map(str::to_string)
    });
    names.collect()
}

/// The record of a past run: by its id or the beginning of it, or the newest of those that a person called so.
pub fn past(store: &Store, name: &str) -> Result<Option<Report>> {
    let mut found: Vec<String> = names(store).into_iter().filter(|n| n.starts_with(name)).collect();
    if found.is_empty() {
        return Ok(all(store).into_iter().rfind(|report| report.name.as_deref() == Some(name)));
    }
    if found.len() > 1 {
        found.sort();
        let near = hint("", found.iter().map(String::as_str));
        return Err(Error::SeveralRuns { name: name.into(), near });
    }
    let Some(found) = found.first() else { return Ok(None) };
    record::read(&store.run(found)).map(Some).ok_or_else(|| Error::DamagedRun(found.clone()))
}

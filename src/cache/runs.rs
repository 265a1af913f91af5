//! What became of a run and of each of its stages.

use crate::cache::error::{Error, Result};
use crate::cache::failure::TaskFailure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    pub outputs: BTreeMap<String, store::Produced>,
    /// As how many processes it was made, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<Processes>,
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
}

/// The record of a past run, by its name or the beginning of it.
pub fn past(store: &Store, name: &str) -> Result<Option<Report>> {
    let names = store.list(Area::Runs).into_iter().filter_map(|path| {
        let file = path.file_name()?.to_str()?.to_string();
        file.strip_suffix(".json").map(str::to_string)
    });
    let mut found: Vec<String> = names.filter(|n| n.starts_with(name)).collect();
    if found.len() > 1 {
        found.sort();
        let near = hint("", found.iter().map(String::as_str));
        return Err(Error::SeveralRuns { name: name.into(), near });
    }
    let Some(found) = found.first() else { return Ok(None) };
    record::read(&store.run(found)).map(Some).ok_or_else(|| Error::DamagedRun(found.clone()))
}

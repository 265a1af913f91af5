//! What became of a run and of each of its stages.

use crate::error::{Error, Result};
use crate::run::stop::Stop;
use crate::run::worker;
use crate::store::results;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What became of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
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
    Skipped,
}

/// One line of the summary.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub stage: String,
    pub fate: Fate,
    /// Why it ran, or why it failed.
    pub reason: String,
    /// Action keys, when they became known: one, or one for each entry of a mapped stage.
    #[serde(deserialize_with = "keys")]
    pub keys: Vec<String>,
    /// How long its program ran, in this run or when it was made.
    pub seconds: Option<f64>,
    pub outputs: BTreeMap<String, results::Produced>,
}

/// Keys of a record that may come from elsewhere: what is none makes it a damaged one.
fn keys<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    let keys = Vec::<String>::deserialize(d)?;
    match keys.iter().find(|key| !crate::key::is_key(key)) {
        Some(wrong) => Err(serde::de::Error::custom(format!("`{wrong}` is no key"))),
        None => Ok(keys),
    }
}

/// A run and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name of the run; its logs lie in `.pipeline/logs/RUN`.
    pub run: String,
    pub study: String,
    /// Seconds since 1970.
    pub started: u64,
    pub finished: u64,
    pub stages: Vec<Row>,
}

impl Report {
    /// What the exit code is made from.
    pub fn verdict(&self, stop: &Stop) -> Result<()> {
        if stop.asked() {
            return Err(Error::Interrupted);
        }
        let failed: Vec<&Row> = self.stages.iter().filter(|r| r.fate == Fate::Failed).collect();
        match failed.as_slice() {
            // Without a failure before it, nothing may be left out.
            [] => match self.stages.iter().filter(|r| r.fate == Fate::Skipped).collect::<Vec<_>>().as_slice()
            {
                [] => Ok(()),
                left => Err(Error::Store(format!(
                    "not run, as what they read is not at hand: {}; run them again with --force, or `pipeline verify`",
                    left.iter().map(|r| r.stage.as_str()).collect::<Vec<_>>().join(", ")
                ))),
            },
            [one] if one.reason.starts_with(worker::TRY_AGAIN) => Err(Error::TryAgain(one.stage.clone())),
            many => Err(Error::Failed(many.iter().map(|r| r.stage.clone()).collect())),
        }
    }
}

//! What actions gave. A result exists when its record does; several may stand under one key.

use crate::error::{IoContext, Result};
use crate::key::{Action, is_key};
use crate::store::digest::{Digest, Kind};
use crate::store::lock::{self, Lock};
use crate::store::manifest::LARGEST;
use crate::store::{Store, record};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One output of an action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Produced {
    pub digest: Digest,
    pub bytes: u64,
    pub files: u64,
}

/// What one run of an action gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub action: Action,
    pub outputs: BTreeMap<String, Produced>,
    /// Seconds since 1970 when it was done.
    pub finished: u64,
    /// How long the program ran.
    pub seconds: f64,
    /// The run that made it.
    pub run: String,
    /// The key under which the outputs were made, where a person accepted them for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
}

impl Outcome {
    /// Whether a record that comes from elsewhere can be the result of the action `key`. `sums` gives the bytes and the
    /// number of files of a tree.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self, key: &str, sums: impl Fn(&Digest) -> Option<(u64, u64)>) -> Result<(), String> {
        if !is_key(key) || self.action.key() != key {
            return Err("its key is not that of its action".into());
        }
        if !self.outputs.keys().eq(self.action.outputs.keys()) {
            return Err("its outputs are not those of its action".into());
        }
        if !self.accepted.as_ref().is_none_or(|key| is_key(key)) || !self.seconds.is_finite() {
            return Err("it says what no record says".into());
        }
        for (name, output) in &self.outputs {
            let (digest, said) = (&output.digest, (output.bytes, output.files));
            let right = match digest.kind {
                Kind::Tree => sums(digest).ok_or_else(|| format!("it lacks {digest}"))? == said,
                Kind::File | Kind::Program => output.files == 1 && output.bytes <= LARGEST,
            };
            if !right {
                return Err(format!("the sums of its output {name:?} are wrong"));
            }
        }
        Ok(())
    }
}

/// The newest success of a stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Last {
    pub action: Action,
    pub seconds: f64,
    pub finished: u64,
}

/// Notes that a result was used, at most once an hour: `gc` drops the least recently used first.
fn touch(path: &Path) {
    let old = |meta: fs::Metadata| {
        let age = meta.modified().ok()?.elapsed().ok()?;
        (age > Duration::from_secs(3600)).then_some(())
    };
    if fs::metadata(path).ok().and_then(old).is_some()
        && let Ok(file) = fs::File::options().append(true).open(path)
    {
        // A read-only store still serves; its results only look older.
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl Store {
    fn results_of(&self, key: &str) -> PathBuf {
        self.path.join("results").join(&key[..2]).join(key)
    }

    /// The newest result of a key whose outputs are all at hand.
    pub fn lookup(&self, key: &str) -> Result<Option<Outcome>> {
        self.lookup_except(key, |_| false)
    }

    /// The same, where some outputs need not be at hand. Of a folder its list of files must be.
    pub fn lookup_except(&self, key: &str, spare: impl Fn(&str) -> bool) -> Result<Option<Outcome>> {
        for (path, outcome) in self.records(key) {
            let mut whole = true;
            for (name, output) in &outcome.outputs {
                let listed = || output.digest.kind != Kind::Tree || self.manifest(&output.digest).is_some();
                whole &= (spare(name) && listed()) || self.ready(&output.digest)?;
            }
            if whole {
                touch(&path);
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    /// All results of a key that can be read, newest first.
    pub fn outcomes(&self, key: &str) -> Vec<Outcome> {
        self.records(key).map(|(_, outcome)| outcome).collect()
    }

    fn records(&self, key: &str) -> impl Iterator<Item = (PathBuf, Outcome)> {
        let folder = fs::read_dir(self.results_of(key));
        let mut paths: Vec<PathBuf> =
            folder.map(|f| f.flatten().map(|e| e.path()).collect()).unwrap_or_default();
        paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
        paths.sort();
        let read =
            paths.into_iter().rev().filter_map(|path| record::read::<Outcome>(&path).map(|o| (path, o)));
        let key = key.to_string();
        read.filter(move |(_, outcome)| {
            // One with other outputs could be believed and not used.
            outcome.action.key() == key && outcome.outputs.keys().eq(outcome.action.outputs.keys())
        })
    }

    /// Writes a result; its outputs must have reached the disk.
    pub fn record(&self, key: &str, outcome: &Outcome) -> Result<()> {
        let folder = self.results_of(key);
        // Numbered, because clocks can go back. The key's lock keeps others from taking the same number.
        let number = fs::read_dir(&folder).map_or(0, |entries| {
            let names = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
            names.filter_map(|n| n.strip_suffix(".json")?.parse::<u64>().ok()).max().map_or(0, |n| n + 1)
        });
        record::write(&folder.join(format!("{number:06}.json")), outcome, true)
    }

    /// Waits for the right to run an action. `None` when asked to stop while waiting.
    pub fn lock(&self, key: &str, waiting: impl FnOnce(), stop: impl Fn() -> bool) -> Result<Option<Lock>> {
        lock::wait(&self.at("locks").join(key), false, waiting, stop)
    }

    fn last_path(&self, stage: &str) -> PathBuf {
        self.at("last").join(&self.study).join(format!("{stage}.json"))
    }

    /// The newest success of a stage.
    pub fn last(&self, stage: &str) -> Option<Last> {
        record::read(&self.last_path(stage))
    }

    /// Notes the newest success of a stage.
    pub fn set_last(&self, stage: &str, last: &Last) -> Result<()> {
        let path = self.last_path(stage);
        if self.last(stage).is_some_and(|old| old.action == last.action && old.finished == last.finished) {
            return Ok(());
        }
        record::write(&path, last, false)
    }

    /// Makes an empty folder, whatever stood there.
    pub fn fresh(&self, path: &Path) -> Result<()> {
        crate::store::link::remove(path)?;
        fs::create_dir_all(path).at("making", path)
    }
}

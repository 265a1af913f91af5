//! What actions gave. A result exists when its record does; several may stand under one key.

use crate::action::Action;
use crate::cache::error::Result;
use crate::cache::facts::{Commit, Machine};
use crate::name_map::NameMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::digest::{Digest, Kind};
use store::manifest::LARGEST;
use store::{Key, Produced, Store, record};
use study::Processes;

/// What one run of an action gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionResult {
    /// The same place in memory as that of the task that it was looked up for.
    #[serde(with = "shared")]
    pub action: Arc<Action>,
    pub outputs: NameMap<Produced>,
    /// Seconds since 1970 when it was done.
    pub finished: u64,
    /// How long the program ran, in all attempts that made it.
    pub seconds: f64,
    /// Those that were stopped, and from which the last went on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Earlier>,
    /// The run that made it.
    pub run: String,
    /// As how many processes it was made, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<Processes>,
    /// The key under which the outputs were made, where a person accepted them for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Key>,
    /// Where, and with what. Records of older runners do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "alike")]
    pub ran: Option<Arc<Ran>>,
}

/// Something in one place of memory, written down as what it is.
mod shared {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize(value, serializer)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(from).map(Arc::new)
    }
}

/// Where results were made, which of thousands is mostly the same, in one place of memory for all that are alike.
mod alike {
    use super::Ran;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::HashSet;
    use std::sync::{Arc, LazyLock, Mutex, PoisonError};

    /// All that are held, and how many may be before those that nobody else holds are let go.
    type Held = (HashSet<Arc<Ran>>, usize);

    static HELD: LazyLock<Mutex<Held>> = LazyLock::new(|| Mutex::new((HashSet::new(), 1024)));

    pub fn share(ran: Ran) -> Arc<Ran> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, most) = &mut *held;
        if let Some(there) = all.get(&ran) {
            return Arc::clone(there);
        }
        if all.len() >= *most {
            all.retain(|ran| Arc::strong_count(ran) > 1);
            *most = 1024.max(2 * all.len());
        }
        let ran = Arc::new(ran);
        all.insert(Arc::clone(&ran));
        ran
    }

    pub fn serialize<S: Serializer>(value: &Option<Arc<Ran>>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_deref().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Arc<Ran>>, D::Error> {
        Ok(Option::<Ran>::deserialize(from)?.map(share))
    }
}

/// Attempts that gave no result themselves, and from which another went on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Earlier {
    pub attempts: u32,
    /// How long they ran together.
    pub seconds: f64,
}

/// Where a result was made, and with what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Ran {
    /// The machine; of its GPUs those that the stage had.
    #[serde(flatten)]
    pub machine: Machine,
    /// Who started the program: `local`, `slurm`.
    pub engine: String,
    /// CPU threads of an operation, where the study says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
    /// The most memory that one of its processes held, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// The study's folder in git.
    #[serde(flatten)]
    pub commit: Commit,
    /// Version of the runner.
    pub runner: String,
    /// What the program said that it ran with: `device`, `libtorch`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reported: BTreeMap<String, String>,
}

impl Ran {
    /// In one place of memory for all that are alike.
    pub fn shared(self) -> Arc<Self> {
        alike::share(self)
    }
}

impl ActionResult {
    /// The same, with the action in the place where an equal one lies already.
    pub fn of(self, action: &Arc<Action>) -> Self {
        Self { action: Arc::clone(action), ..self }
    }

    /// Whether a record that comes from elsewhere can be the result of the action `key`. `sums` gives the bytes and the
    /// number of files of a tree.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self, key: &Key, sums: impl Fn(&Digest) -> Option<(u64, u64)>) -> Result<(), String> {
        if self.action.key() != *key {
            return Err("its key is not that of its action".into());
        }
        if !self.outputs.keys().eq(self.action.outputs.keys()) {
            return Err("its outputs are not those of its action".into());
        }
        if !self.seconds.is_finite() || self.earlier.as_ref().is_some_and(|e| !e.seconds.is_finite()) {
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
    #[serde(with = "shared")]
    pub action: Arc<Action>,
    pub seconds: f64,
    pub finished: u64,
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The newest result of a key whose outputs are all at hand.
pub fn lookup(store: &Store, key: &Key) -> Result<Option<ActionResult>> {
    lookup_except(store, key, |_| false)
}

/// The same, where some outputs need not be at hand. Of a folder its list of files must be.
pub fn lookup_except(
    store: &Store,
    key: &Key,
    optional: impl Fn(&str) -> bool,
) -> Result<Option<ActionResult>> {
    for (path, outcome) in records(store, key) {
        let mut whole = true;
        for (name, output) in &outcome.outputs {
            let listed = || output.digest.kind != Kind::Tree || store.manifest(&output.digest).is_some();
            whole &= (optional(name) && listed()) || store.materialize(&output.digest)?;
        }
        if whole {
            touch(&path);
            return Ok(Some(outcome));
        }
    }
    Ok(None)
}

/// The newest result of a key whose outputs seem to be at hand: they are there, and nothing is read, mended or noted. Some
/// need not be.
pub fn look(store: &Store, key: &Key, optional: impl Fn(&str) -> bool) -> Option<ActionResult> {
    let there = |output: &Produced| match output.digest.kind {
        Kind::Tree => store.manifest_path(&output.digest).is_file(),
        Kind::File | Kind::Program => {
            fs::metadata(store.place(&output.digest)).is_ok_and(|meta| meta.len() == output.bytes)
        }
    };
    let mut found = records(store, key).map(|(_, outcome)| outcome);
    found.find(|outcome| outcome.outputs.iter().all(|(name, output)| optional(name) || there(output)))
}

/// All results of a key that can be read, newest first.
pub fn all(store: &Store, key: &Key) -> Vec<ActionResult> {
    records(store, key).map(|(_, outcome)| outcome).collect()
}

fn records(store: &Store, key: &Key) -> impl Iterator<Item = (PathBuf, ActionResult)> {
    let folder = fs::read_dir(store.results(key));
    let mut paths: Vec<PathBuf> = folder.map(|f| f.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let read =
        paths.into_iter().rev().filter_map(|path| record::read::<ActionResult>(&path).map(|o| (path, o)));
    let key = *key;
    read.filter(move |(_, outcome)| {
        // One with other outputs could be believed and not used.
        outcome.action.key() == key && outcome.outputs.keys().eq(outcome.action.outputs.keys())
    })
}

/// The number of the newest result of a key. It is another one after somebody wrote one.
pub fn newest(store: &Store, key: &Key) -> Option<u64> {
    let names = fs::read_dir(store.results(key)).ok()?.flatten();
    let names = names.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter_map(|n| n.strip_suffix(".json")?.parse::<u64>().ok()).max()
}

/// Writes a result; its outputs must have reached the disk.
pub fn record(store: &Store, key: &Key, outcome: &ActionResult) -> Result<()> {
    // Numbered, because clocks can go back. The key's lock keeps others from taking the same number.
    let number = newest(store, key).map_or(0, |n| n + 1);
    let path = store.results(key).join(format!("{number:06}.json"));
    Ok(record::write(&path, outcome, true)?)
}

/// The newest success of a stage.
pub fn last(store: &Store, label: &str) -> Option<Last> {
    record::read(&store.last(label))
}

/// Notes the newest success of a stage.
pub fn set_last(store: &Store, label: &str, new: &Last) -> Result<()> {
    let path = store.last(label);
    if last(store, label).is_some_and(|old| old.action == new.action && old.finished == new.finished) {
        return Ok(());
    }
    Ok(record::write(&path, new, false)?)
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

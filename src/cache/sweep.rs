//! What may go from a store: results that nobody needs, and everything that no result names.

use crate::cache::error::Result;
use crate::cache::results::{ActionResult, Last};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use store::digest::{Digest, Kind};
use store::{Area, Key, Store, lock, record};
use study::graph::Step;

/// What is kept beside the newest result of each stage.
pub struct Limits {
    /// The most recently used other results, up to so many bytes in all.
    pub max_size: u64,
    /// Every result that was made or used so recently.
    pub grace: Duration,
    /// Logs and records of runs that are younger.
    pub logs: Duration,
}

/// What is to become of a store.
pub struct Plan {
    /// Files and folders that go.
    pub doomed: Vec<PathBuf>,
    /// Bytes of the contents that stay.
    pub kept: u64,
}

/// Keeps the newest result of every stage of `steps` (a study's and its variants'), then the most recently used others
/// as far as they are younger than the grace time or fit the size limit. Everything that no result names goes, and so
/// do the contents of `temp` outputs that were not used within the grace time. `busy` says whether an attempt's folder
/// may still be written to.
pub fn plan(store: &Store, steps: &[&Step], limits: &Limits, busy: impl Fn(&Path) -> bool) -> Result<Plan> {
    let mut live: HashSet<PathBuf> = HashSet::new();
    let mut bytes = 0;
    let ids: HashSet<&str> = steps.iter().map(|s| s.id.as_str()).collect();
    // Of other studies that share the store, every stage counts; of this one, those that it still has.
    let needed: HashSet<Key> = store
        .list(Area::Last)
        .into_iter()
        .filter(|path| {
            let label = path.file_stem().unwrap_or_default().to_string_lossy();
            let other = !path.starts_with(store.own_last());
            other || ids.contains(label.split('[').next().unwrap_or_default())
        })
        .filter_map(|path| Some(record::read::<Last>(&path)?.action.key()))
        .collect();
    // Outputs whose contents are not needed for their results to count.
    let temp: HashSet<(&str, &String)> = steps
        .iter()
        .flat_map(|s| s.outputs.iter().filter(|o| o.temp).map(|o| (s.stage.as_str(), &o.name)))
        .collect();
    let oldest = SystemTime::now().checked_sub(limits.grace).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut doomed: Vec<PathBuf> = Vec::new();
    let mut unreferenced: Vec<Unreferenced> = Vec::new();
    for path in store.list(Area::Results) {
        let Some(outcome) = record::read::<ActionResult>(&path) else {
            doomed.push(path);
            continue;
        };
        let used = fs::metadata(&path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        if needed.contains(&outcome.action.key()) {
            for (name, output) in &outcome.outputs {
                if used <= oldest && temp.contains(&(outcome.action.stage.as_str(), name)) {
                    live.insert(store.manifest_path(&output.digest));
                } else {
                    bytes += reach(store, &output.digest, &mut live);
                }
            }
            continue;
        }
        unreferenced.push(Unreferenced { path, outcome, used });
    }
    unreferenced.sort_by_key(|s| std::cmp::Reverse(s.used));
    let stages: HashSet<&str> = steps.iter().map(|s| s.stage.as_str()).collect();
    for Unreferenced { path, outcome, used } in unreferenced {
        let stage = outcome.action.stage.as_str();
        // One without its contents serves nobody. Which may be dropped is known of this study alone.
        let mut kept = outcome.outputs.iter().filter(|(name, _)| !temp.contains(&(stage, name)));
        if stages.contains(stage) && kept.any(|(_, output)| store.lost(&output.digest)) {
            doomed.push(path);
            continue;
        }
        let more: u64 = outcome.outputs.values().map(|o| o.bytes).sum();
        if used > oldest || bytes + more <= limits.max_size {
            outcome.outputs.values().for_each(|o| bytes += reach(store, &o.digest, &mut live));
        } else {
            doomed.push(path);
        }
    }
    for area in [Area::Blobs, Area::Views, Area::Trees] {
        // `plan` tells the changes of a folder by its old manifest; a month of them costs nothing.
        let young = |p: &PathBuf| area == Area::Trees && age(p) < Duration::from_secs(30 * 86_400);
        doomed.extend(store.list(area).into_iter().filter(|p| !live.contains(p) && !young(p)));
    }
    doomed.extend(store.list(Area::Attempts).into_iter().filter(|p| !busy(p)));
    doomed.extend(store.list(Area::Damaged));
    for area in [Area::Logs, Area::Runs] {
        doomed.extend(store.list(area).into_iter().filter(|p| age(p) >= limits.logs));
    }
    // What an interrupted stage left is an hour of somebody's GPU: it goes only when it is older than the grace time.
    // So does what it wrote and could not be taken in.
    for area in [Area::State, Area::Refused] {
        doomed.extend(store.list(area).into_iter().filter(|p| age(p) > limits.grace));
    }
    for path in store.list(Area::Locks).into_iter().filter(|p| *p != store.lock_of_store()) {
        // One that is held belongs to a stage that is just being stopped.
        if lock::attempt(&path, false)?.is_some() {
            doomed.push(path);
        }
    }
    Ok(Plan { doomed, kept: bytes })
}

/// A result that no stage needs now but that a parameter put back would find.
struct Unreferenced {
    path: PathBuf,
    outcome: ActionResult,
    used: SystemTime,
}

/// Notes the places of a content and of everything in it; returns the bytes that were not noted before.
fn reach(store: &Store, digest: &Digest, live: &mut HashSet<PathBuf>) -> u64 {
    let place = store.place(digest);
    if digest.kind != Kind::Tree {
        let bytes = fs::metadata(&place).map_or(0, |m| m.len());
        return if live.insert(place) { bytes } else { 0 };
    }
    live.insert(place);
    live.insert(store.manifest_path(digest));
    let Some(manifest) = store.manifest(digest) else { return 0 };
    manifest.blobs().map(|(blob, _)| reach(store, &blob, live)).sum()
}

fn age(path: &Path) -> Duration {
    let changed = fs::symlink_metadata(path).and_then(|m| m.modified()).ok();
    changed.and_then(|t| t.elapsed().ok()).unwrap_or_default()
}

/// Bytes that go with a file or folder. The files of a view share their blocks with blobs and weigh nothing.
pub fn weight(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 })
}

//! `pipeline gc`.

use super::{print, print_json, size};
use crate::cli::Global;
use crate::error::{Error, IoContext, Result};
use crate::store::digest::{Digest, Kind};
use crate::store::manifest::Item;
use crate::store::results::Outcome;
use crate::store::{Store, link, lock, record};
use crate::study;
use serde_json::json;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Removes the results that are not the newest of a stage, and every content that no result names.
pub fn gc(global: &Global, dry_run: bool) -> Result<()> {
    let graph = study::load(&global.choice())?;
    let store = Store::open(&graph.root)?;
    let Some(_held) = lock::attempt(&store.at("locks/store"), false)? else {
        return Err(Error::Store(
            "a run is going on in this store; gc waits for nobody, so try again after it".into(),
        ));
    };
    let keep: HashSet<String> =
        graph.steps.iter().filter_map(|s| store.last(&s.stage)).map(|last| last.action.key()).collect();
    let mut doomed: Vec<PathBuf> = Vec::new();
    let mut live: HashSet<PathBuf> = HashSet::new();
    for result in files(&store.at("results"), 2) {
        let key =
            result.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        match record::read::<Outcome>(&result) {
            Some(outcome) if keep.contains(&key) => {
                outcome.outputs.values().for_each(|o| reach(&store, &o.digest, &mut live));
            }
            _ => doomed.push(result),
        }
    }
    doomed.extend(files(&store.at("blobs"), 1).into_iter().filter(|p| !live.contains(p)));
    doomed.extend(files(&store.at("views"), 0).into_iter().filter(|p| !live.contains(p)));
    for folder in ["attempts", "damaged", "state"] {
        doomed.extend(files(&store.at(folder), 0));
    }
    let mut bytes = 0;
    for path in &doomed {
        let meta = fs::symlink_metadata(path).at("reading", path)?;
        bytes += if meta.is_file() { meta.len() } else { 0 };
        if !dry_run {
            link::remove(path)?;
        }
    }
    if global.json {
        return print_json(&json!({ "removed": doomed.len(), "bytes": bytes, "dry-run": dry_run }));
    }
    let verb = if dry_run { "would remove" } else { "removed" };
    print(&format!("{verb} {} files and folders, {}\n", doomed.len(), size(bytes)))
}

/// Notes the places of a content and of everything in it.
fn reach(store: &Store, digest: &Digest, live: &mut HashSet<PathBuf>) {
    live.insert(store.place(digest));
    if digest.kind != Kind::Tree {
        return;
    }
    let Some(manifest) = store.manifest(digest) else { return };
    for entry in &manifest.0 {
        if let Item::File(blob, _) = &entry.item {
            live.insert(store.place(blob));
        }
    }
}

/// What lies `depth` folders below `folder`.
fn files(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).map(|d| d.flatten().map(|e| e.path()).collect::<Vec<_>>());
    let entries = entries.unwrap_or_default();
    match depth {
        0 => entries,
        _ => entries.iter().flat_map(|e| files(e, depth - 1)).collect(),
    }
}

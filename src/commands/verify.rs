//! `pipeline verify`.

use super::gc::files;
use super::{print, print_json, size};
use crate::cli::Global;
use crate::error::{Error, IoContext, Result};
use crate::store::digest::{Digest, Kind};
use crate::store::results::Outcome;
use crate::store::{Store, manifest, record};
use crate::study;
use rayon::prelude::*;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// Reads the whole store again, believing no cache, and puts aside what is not what its name says.
pub fn verify(global: &Global) -> Result<()> {
    let graph = study::load(&global.choice())?;
    let store = Store::open(&graph.root, &graph.name)?;
    let mut all: Vec<(PathBuf, bool)> = files(&store.at("blobs"), 1).into_iter().map(|p| (p, true)).collect();
    all.extend(files(&store.at("trees"), 1).into_iter().map(|p| (p, false)));
    let checked = all.par_iter().map(|(path, blob)| {
        let bytes = fs::metadata(path).map_or(0, |m| m.len());
        let good = if *blob { blob_is_whole(path)? } else { tree_is_whole(path)? };
        Ok((path.clone(), bytes, good))
    });
    let checked = checked.collect::<Result<Vec<_>>>()?;
    let mut bad: Vec<PathBuf> =
        checked.iter().filter(|(_, _, good)| !good).map(|(p, ..)| p.clone()).collect();
    let results = files(&store.at("results"), 2);
    bad.extend(results.iter().filter(|p| record::read::<Outcome>(p).is_none()).cloned());
    for path in &bad {
        store.put_aside(path)?;
    }
    let bytes: u64 = checked.iter().map(|(_, bytes, _)| bytes).sum();
    let count = checked.len() + results.len();
    if global.json {
        print_json(&json!({ "checked": count, "bytes": bytes, "damaged": bad }))?;
    } else {
        print(&format!("checked {count} files, {}: {} damaged\n", size(bytes), bad.len()))?;
        for path in &bad {
            print(&format!("  {}\n", path.strip_prefix(&store.path).unwrap_or(path).display()))?;
        }
    }
    match bad.len() {
        0 => Ok(()),
        n => Err(Error::Store(format!(
            "{n} damaged files were moved to .pipeline/damaged; the next run makes them again"
        ))),
    }
}

/// The digest that a path in the store claims, from its last two parts.
fn claimed(path: &Path, kind: Kind) -> Option<Digest> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent()?.file_name()?.to_str()?;
    let (name, kind) = match name.strip_suffix(".x") {
        Some(name) => (name, Kind::Program),
        None => (name, kind),
    };
    let hash = blake3::Hash::from_hex(format!("{folder}{name}")).ok()?;
    Some(Digest { kind, hash: *hash.as_bytes() })
}

fn blob_is_whole(path: &Path) -> Result<bool> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap(path).at("hashing", path)?;
    Ok(claimed(path, Kind::File).is_some_and(|d| d.hash == *hasher.finalize().as_bytes()))
}

fn tree_is_whole(path: &Path) -> Result<bool> {
    let bytes = fs::read(path).at("reading", path)?;
    Ok(claimed(path, Kind::Tree) == Some(manifest::digest_of(&bytes)))
}

//! `pipeline verify`.

use super::output::{print, print_json};
use crate::cache::results::ActionResult;
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::text::size;
use rayon::prelude::*;
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use store::{Area, Store, record, verify};

/// Reads the whole store again, believing no cache, and puts what is not what its name says into quarantine.
pub fn verify(global: &Global) -> Result<()> {
    let graph = study::load(&global.choice())?;
    let store = Store::open(&graph.root, &graph.name)?;
    let mut all: Vec<(PathBuf, bool)> = store.list(Area::Blobs).into_iter().map(|p| (p, true)).collect();
    all.extend(store.list(Area::Trees).into_iter().map(|p| (p, false)));
    let checked = all.par_iter().map(|(path, blob)| {
        let bytes = fs::metadata(path).map_or(0, |m| m.len());
        let good = if *blob { verify::blob_is_whole(path)? } else { verify::tree_is_whole(path)? };
        Ok((path.clone(), bytes, good))
    });
    let checked = checked.collect::<Result<Vec<_>>>()?;
    let mut bad: Vec<PathBuf> =
        checked.iter().filter(|(_, _, good)| !good).map(|(p, ..)| p.clone()).collect();
    let results = store.list(Area::Results);
    bad.extend(results.iter().filter(|p| record::read::<ActionResult>(p).is_none()).cloned());
    for path in &bad {
        store.quarantine(path)?;
    }
    let bytes: u64 = checked.iter().map(|(_, bytes, _)| bytes).sum();
    let count = checked.len() + results.len();
    if global.json {
        print_json(&json!({ "checked": count, "bytes": bytes, "damaged": bad }))?;
    } else {
        print(&format!("checked {count} files, {}: {} damaged\n", size(bytes), bad.len()))?;
        for path in &bad {
            print(&format!("  {}\n", store.shown(path).display()))?;
        }
    }
    match bad.len() {
        0 => Ok(()),
        n => Err(Error::Damaged(n)),
    }
}

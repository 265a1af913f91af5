//! `pipeline verify`.

use super::output::{print, print_json};
use crate::cache::results::ActionResult;
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::stderr;
use crate::text::{counted, size};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;
use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use store::digest::{Digest, Kind};
use store::{Area, Store, link, lock, record, verify};
use study::Choice;
use study::graph::Step;

/// This many places of what a result lacks are named.
const NAMED: usize = 5;

/// Reads the whole store again, believing no cache, puts what is not what its name says into quarantine, and says
/// which results lack something.
pub fn verify(global: &Global) -> Result<()> {
    let graph = study::load(&global.choice())?;
    let everything = Choice { variants: vec!["*".into()], ..global.choice() };
    let variants = study::load(&everything).map(|graph| graph.steps).unwrap_or_default();
    let store = Store::look(&graph.root, &graph.name)?;
    if !store.is_there() {
        return Err(store::Error::NoStore(store.path).into());
    }
    // A gc beside it would take away what was just found.
    let busy = || stderr::line("waiting for a gc of the store");
    // Where nothing can be written, nothing is taken away either.
    let _shared = match store.is_closed() {
        true => None,
        false => match lock::wait(&store.lock_of_store(), true, busy, || false) {
            Err(store::Error::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => None,
            lock => lock?,
        },
    };
    // What another runner is just writing, or a killed one left, is nothing yet; `gc` takes the latter away.
    let list = |area| store.list(area).into_iter().filter(|path| !link::is_partial(path));
    let mut all: Vec<(PathBuf, bool)> = list(Area::Blobs).map(|p| (p, true)).collect();
    all.extend(list(Area::Trees).map(|p| (p, false)));
    let checked = all.par_iter().map(|(path, blob)| {
        let bytes = fs::metadata(path).map_or(0, |m| m.len());
        let good = if *blob { verify::blob_is_whole(path)? } else { verify::tree_is_whole(path)? };
        Ok((path.clone(), bytes, good))
    });
    let checked = checked.collect::<Result<Vec<_>>>()?;
    let mut bad: Vec<PathBuf> =
        checked.iter().filter(|(_, _, good)| !good).map(|(p, ..)| p.clone()).collect();
    let blobs: Vec<Digest> = bad.iter().filter_map(|path| verify::claimed(path, Kind::File)).collect();
    if !store.is_closed() {
        store.distrust(&blobs)?;
    }
    let results: Vec<PathBuf> = list(Area::Results).collect();
    bad.extend(results.iter().filter(|p| record::read::<ActionResult>(p).is_none()).cloned());
    for path in bad.iter().filter(|_| !store.is_closed()) {
        store.quarantine(path)?;
    }
    let steps: Vec<&Step> = graph.steps.iter().chain(&variants).collect();
    let missing = missing(&store, &steps, &results)?;
    let bytes: u64 = checked.iter().map(|(_, bytes, _)| bytes).sum();
    let count = checked.len() + results.len();
    if global.json {
        print_json(&json!({ "checked": count, "bytes": bytes, "damaged": bad, "missing": missing }))?;
    } else {
        let files = counted(count, "file");
        print(&format!("checked {files}, {}: {} damaged\n", size(bytes), bad.len()))?;
        for path in &bad {
            print(&format!("  {}\n", store.shown(path).display()))?;
        }
        if !missing.is_empty() {
            print(&format!("{} of the study without contents\n", counted(missing.len(), "result")))?;
        }
        for lack in &missing {
            print(&format!("  {lack}\n"))?;
        }
    }
    match (bad.len(), missing.len()) {
        (0, 0) => Ok(()),
        (0, n) => Err(Error::Missing(n)),
        (n, _) if store.is_closed() => Err(Error::DamagedThere(n)),
        (n, _) => Err(Error::Damaged(n)),
    }
}

/// A result whose contents are not all there.
#[derive(Serialize)]
struct Missing {
    stage: String,
    output: String,
    key: String,
    /// Relative to the store; the first few.
    places: Vec<PathBuf>,
    more: usize,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let places: Vec<_> = self.places.iter().map(|place| place.display().to_string()).collect();
        write!(f, "{}.{} ({}) lacks {}", self.stage, self.output, self.key, places.join(", "))?;
        if self.more > 0 { write!(f, " and {} more", self.more) } else { Ok(()) }
    }
}

/// What lacks something, of the results of these steps. Contents that `gc` may drop are not missed.
fn missing(store: &Store, steps: &[&Step], results: &[PathBuf]) -> Result<Vec<Missing>> {
    let stages: HashSet<&str> = steps.iter().map(|step| step.stage.as_str()).collect();
    let outputs = steps.iter().flat_map(|step| step.outputs.iter().map(|o| (step.stage.as_str(), o)));
    let dropped: HashSet<(&str, &str)> =
        outputs.filter(|(_, o)| o.temp).map(|(stage, o)| (stage, o.name.as_str())).collect();
    let mut found = Vec::new();
    for outcome in results.iter().filter_map(|path| record::read::<ActionResult>(path)) {
        let stage = outcome.action.stage.as_str();
        for (name, output) in outcome.outputs.iter().filter(|_| stages.contains(stage)) {
            if dropped.contains(&(stage, name.as_str())) {
                continue;
            }
            let places = store.missing(&output.digest)?;
            if !places.is_empty() {
                let more = places.len().saturating_sub(NAMED);
                let places = places.iter().take(NAMED).map(|place| store.shown(place).into()).collect();
                let (stage, output) = (stage.to_string(), name.clone());
                let key = outcome.action.key().short();
                found.push(Missing { stage, output, key, places, more });
            }
        }
    }
    Ok(found)
}

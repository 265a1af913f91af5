//! `pipeline lock`, and the comparison behind `pipeline run --locked`.

use super::{print, print_json};
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::plan::{self, State};
use crate::session::Session;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use store::IoContext;
use store::digest::Digest;
use store::record;

/// The digests of a reproduced study, to be committed with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFile {
    /// Version of this file's form.
    version: u32,
    /// Stage, then output.
    stages: BTreeMap<String, BTreeMap<String, Digest>>,
}

/// `pipeline.yaml` → `pipeline.lock`.
fn path(global: &Global) -> PathBuf {
    global.file.with_extension("lock")
}

/// Writes the digests of all outputs of a study that is done.
pub fn lock(global: &Global) -> Result<()> {
    let mut session = Session::open(&global.options(&[]))?;
    let planned = plan::plan(&mut session)?;
    session.store.stats.save();
    if let Some(open) = planned.iter().find(|p| !matches!(p.state, State::Cached)) {
        return Err(Error::Usage(format!("{} is not done; `pipeline run` first", open.stage)));
    }
    let stages = planned.into_iter().map(|p| {
        let outputs = p.outputs.iter().map(|(name, o)| (name.clone(), o.digest)).collect();
        (p.stage, outputs)
    });
    let file = LockFile { version: 1, stages: stages.collect() };
    let json = text(&file, &path(global))?;
    record::write_bytes(&path(global), &json, false)?;
    if global.json {
        return print_json(&file);
    }
    print(&format!("{}: {} stages\n", path(global).display(), file.stages.len()))
}

/// The text of a lock file of these outputs, by stage.
pub fn of(stages: BTreeMap<String, BTreeMap<String, Digest>>) -> Result<Vec<u8>> {
    text(&LockFile { version: 1, stages }, Path::new("a lock file"))
}

fn text(file: &LockFile, path: &Path) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(file).at("encoding", path)?;
    json.push(b'\n');
    Ok(json)
}

/// Compares outputs with the lock file; every difference is a line of the error.
pub fn compare<'a>(global: &Global, outputs: impl Iterator<Item = (&'a str, &'a str, Digest)>) -> Result<()> {
    let path = path(global);
    let bytes = std::fs::read(&path).map_err(|e| {
        Error::Usage(format!("--locked: reading {}: {e}; `pipeline lock` makes it", path.display()))
    })?;
    let file: LockFile = serde_json::from_slice(&bytes)
        .map_err(|e| Error::Usage(format!("--locked: {} is no lock file: {e}", path.display())))?;
    let mut different = Vec::new();
    for (stage, output, digest) in outputs {
        match file.stages.get(stage).and_then(|s| s.get(output)) {
            Some(locked) if *locked == digest => {}
            Some(_) => different.push(format!("{stage}.{output}")),
            None => different.push(format!("{stage}.{output} (not in the lock file)")),
        }
    }
    if different.is_empty() {
        return Ok(());
    }
    Err(Error::Run(format!("not what {} says: {}", path.display(), different.join(", "))))
}

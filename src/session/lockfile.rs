//! The lock file beside a study: the digests of its outputs, and the comparison behind `run --locked`.

use crate::session::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use store::IoContext;
use store::digest::Digest;

/// Version of the form of [`LockFile`].
const VERSION: u32 = 1;

/// The digests of a reproduced study, to be committed with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockFile {
    /// [`VERSION`] when it was made.
    version: u32,
    /// Stage, then output.
    pub stages: BTreeMap<String, BTreeMap<String, Digest>>,
}

impl LockFile {
    /// That of these outputs, by stage.
    pub fn new(stages: BTreeMap<String, BTreeMap<String, Digest>>) -> Self {
        Self { version: VERSION, stages }
    }

    /// Its text; `path` is where it will stand.
    pub fn text(&self, path: &Path) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self).at("encoding", path)?;
        json.push(b'\n');
        Ok(json)
    }

    /// That of a study.
    ///
    /// # Errors
    /// When there is none, or it is of another version.
    pub fn read(study: &Path) -> Result<Self> {
        let path = path(study);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(Error::NoLockFile { path, source }),
        };
        let file: Self = match serde_json::from_slice(&bytes) {
            Ok(file) => file,
            Err(source) => return Err(Error::NotALockFile { path, source }),
        };
        match file.version {
            VERSION => Ok(file),
            found => Err(Error::OtherLockFile { path, found, known: VERSION }),
        }
    }

    /// Compares outputs with those of the study's lock file; every difference is named in the error.
    pub fn compare<'a>(
        &self,
        study: &Path,
        outputs: impl Iterator<Item = (&'a str, &'a str, Digest)>,
    ) -> Result<()> {
        let mut different = Vec::new();
        for (stage, output, digest) in outputs {
            match self.stages.get(stage).and_then(|s| s.get(output)) {
                Some(locked) if *locked == digest => {}
                Some(_) => different.push(format!("{stage}.{output}")),
                None => different.push(format!("{stage}.{output} (not in the lock file)")),
            }
        }
        if different.is_empty() {
            return Ok(());
        }
        Err(Error::NotAsLocked { path: path(study), outputs: different })
    }
}

/// `pipeline.yaml` → `pipeline.lock`.
pub fn path(study: &Path) -> PathBuf {
    study.with_extension("lock")
}

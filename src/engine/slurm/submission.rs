//! A submission as its attempt folder has it.

use crate::engine::error::Result;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use store::record;

/// `slurm.json` of an attempt: written without the id before the job is submitted, and with it right after.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Submission {
    /// The job's name, which no other submission has; none yet before it is being submitted.
    pub name: String,
    /// Its task where it is one of an array.
    pub index: Option<u32>,
    /// With its cluster where that is not the usual one.
    pub id: Option<String>,
    /// The cluster that it was submitted to, where the study or the caller names one.
    #[serde(default)]
    pub cluster: Option<String>,
    /// The run that waits for it, as long as it holds its lock.
    #[serde(default)]
    pub owner: String,
}

impl Submission {
    pub fn path(folder: &Path) -> PathBuf {
        folder.join("slurm.json")
    }

    pub fn read(folder: &Path) -> Option<Self> {
        record::read(&Self::path(folder))
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        Ok(record::write(&Self::path(folder), self, true)?)
    }
}

//! A submission as its attempt folder has it.

use crate::engine::error::Result;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use store::record;
use study::clusters::Cluster;
use study::file::EngineName;
use study::graph::Step;

/// `submission.json` of an attempt: written without the id before the job is submitted, and with it right after.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Submission {
    /// The job's name, which no other submission has; none yet before it is being submitted.
    pub name: String,
    /// Its task where it is one of an array.
    pub index: Option<u32>,
    /// With its cluster where that is not the usual one.
    pub id: Option<String>,
    /// The cluster that it was submitted to, where the study or the caller names one of several.
    #[serde(default)]
    pub cluster: Option<String>,
    /// The run that waits for it, as long as it holds its lock.
    #[serde(default)]
    pub owner: String,
    /// The batch system that has it.
    #[serde(default)]
    pub of: Of,
}

/// A batch system, with all that is needed to ask it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Of {
    #[default]
    Slurm,
    Cluster(Box<Cluster>),
}

impl Of {
    /// That of a step.
    pub fn step(step: &Step) -> Self {
        match (&step.cluster, step.engine) {
            (Some(cluster), EngineName::Cluster) => Self::Cluster(Box::new(Cluster::clone(cluster))),
            _ => Self::Slurm,
        }
    }

    /// The same as `other` says today: commands may have been mended since.
    pub fn or_newer(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Cluster(old), Self::Cluster(new)) if old.name == new.name => other,
            _ => self,
        }
    }
}

impl Submission {
    pub fn path(folder: &Path) -> PathBuf {
        folder.join("submission.json")
    }

    pub fn read(folder: &Path) -> Option<Self> {
        record::read(&Self::path(folder))
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        Ok(record::write(&Self::path(folder), self, true)?)
    }
}

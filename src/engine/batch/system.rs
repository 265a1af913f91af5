//! What the engine needs of a batch system; each is told in its own way.

use super::known::{Known, Seen};
use super::submission::Submission;
use super::waiting::Owner;
use crate::engine::attempt::Attempt;
use crate::engine::error::Error;
use crate::engine::private::Private;
use crate::session::Session;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use study::file::EngineName;
use study::graph::Step;

/// How long before the end of its time a job is told, so that the stage can save; less where it has little time.
const NOTICE: Duration = Duration::from_secs(60);

/// Attempts of one step that are submitted together: one job, or one array of them.
pub struct Batch<'a> {
    pub session: &'a Session,
    pub step: usize,
    /// Shared with what submits.
    pub owner: &'a Owner,
    /// Their folders, each with its index in the array.
    pub folders: Vec<(u32, &'a Path)>,
    /// The folder of the run's logs.
    pub logs: &'a Path,
    /// Words of their command lines that are in no file.
    pub private: Private,
}

impl Batch<'_> {
    /// The step that they are of.
    pub fn step(&self) -> &Step {
        &self.session.graph.steps[self.step]
    }
}

/// Why a system took none of a batch.
pub enum Refusal {
    /// There are too many now, or the system cannot be reached.
    Later(String),
    Never(String),
}

/// The ids of a batch, and what the system warned of.
pub type Submitted = (Vec<Submission>, Vec<String>);

/// A job by its name, and its task in an array.
pub type Named = (String, Option<u32>);

/// A batch system.
pub trait System {
    /// What is asked, in messages.
    fn asker(&self) -> String;

    /// How many tasks an array may have.
    fn largest_array(&self) -> u32;

    /// Whether a task of an array may have any number.
    fn any_numbers(&self) -> bool;

    /// Submits one batch, and notes its ids on disk.
    fn submit(&self, batch: &Batch) -> Result<Submitted, Refusal>;

    /// The states of jobs, in one call. A job that the system has forgotten is not in the answer.
    fn states(&self, ids: &[String]) -> Result<BTreeMap<String, Known>, String>;

    /// The ids of jobs whose runner was killed before it knew them, as far as they were submitted.
    fn find(
        &self,
        names: &BTreeSet<String>,
        cluster: Option<&str>,
    ) -> Result<BTreeMap<Named, String>, String>;

    /// Asks jobs to save and stop (level 1: those that wait are cancelled), or ends them (level 2).
    fn tell(&self, ids: &[String], level: u8);

    /// What a job could not begin without that wrote nothing, where its end tells.
    fn unseen(&self, id: &str, seen: &Seen, attempt: &Attempt) -> Option<Error>;
}

/// How often the system of a step is asked about its jobs.
pub fn interval(step: &Step) -> Duration {
    match &step.cluster {
        Some(cluster) if step.engine == EngineName::Cluster => cluster.interval,
        _ => step.slurm.interval,
    }
}

/// How many jobs of a step's system may be there at a time.
pub fn max_submitted(step: &Step) -> usize {
    let most = match &step.cluster {
        Some(cluster) if step.engine == EngineName::Cluster => cluster.max_submitted,
        _ => step.slurm.max_submitted,
    };
    most.unwrap_or(usize::MAX)
}

/// The longest time of a step's job, where the study says it. A stage that is stopped at its own time limit still needs
/// time to save.
pub fn limit(step: &Step) -> Option<Duration> {
    let own = match &step.cluster {
        Some(cluster) if step.engine == EngineName::Cluster => cluster.time,
        _ => step.slurm.time,
    };
    own.or(step.timeout.map(|t| t + Duration::from_secs(120)))
}

/// How long before the end of its time a job is told.
pub fn notice(step: &Step) -> Duration {
    limit(step).map_or(NOTICE, |time| NOTICE.min(time / 4))
}

/// A length of time as schedulers read it: `1:30:00`.
pub fn clock(time: Duration) -> String {
    let s = time.as_secs().max(1);
    format!("{}:{:02}:{:02}", s / 3600, s % 3600 / 60, s % 60)
}

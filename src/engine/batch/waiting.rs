//! What comes to the desk where jobs are waited for, and what goes from it.

use super::submission::Submission;
use crate::engine::attempt::Attempt;
use crate::engine::contract::End;
use crate::engine::error::{Error, Result};
use crate::session::Task;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::Store;
use store::lock::{self, Lock};

/// What a task is called between the desk and whoever brought it.
pub type Ticket = usize;

/// The lock that says who waits for jobs. It is shared with what submits: whoever comes after a killed runner knows that nothing
/// is being submitted any more.
#[derive(Debug)]
pub struct Owner {
    pub run: String,
    pub lock: Lock,
}

impl Owner {
    /// That of a run.
    pub fn of(store: &Store, run: &str) -> Result<Self> {
        let held = lock::attempt(&store.lock_of_jobs(run), false)?;
        let lock =
            held.ok_or_else(|| Error::Refused(format!("the jobs of run {run} have another runner")))?;
        Ok(Self { run: run.into(), lock })
    }

    /// Notes in an attempt folder that this run will submit it: nobody else takes it up, or looks for its job.
    pub fn claim(&self, folder: &Path) -> Result<()> {
        Submission { owner: self.run.clone(), ..Submission::default() }.write(folder)
    }
}

/// A task whose attempt is a job, or is to become one.
pub struct Arrival {
    pub ticket: Ticket,
    pub task: Arc<Task>,
    pub stand: Stand,
}

/// How far it is.
pub enum Stand {
    /// To be submitted.
    New(Attempt),
    /// An earlier runner left it.
    Left(Attempt),
    /// Somebody else does it, as long as this lock is held.
    Busy(PathBuf),
}

/// What became of a task.
pub enum Notice {
    Say(String),
    /// Its job runs, or waits in the queue again.
    Runs(bool),
    /// The job is over.
    Over(Box<Attempt>, Box<Result<End>>),
    /// The job of an earlier runner came to nothing, or somebody else is done: it is to be looked at anew.
    Anew,
    /// The wish to stop came before it was submitted.
    Stopped,
}

impl Notice {
    /// The job of an attempt is over.
    pub fn over(attempt: Attempt, end: Result<End>) -> Self {
        Self::Over(Box::new(attempt), Box::new(end))
    }
}

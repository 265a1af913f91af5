//! A task that is to be tried: what a thread is given, what it tells while it works, and why it may give nothing.

use crate::cache::failure::{Change, Failure, TaskFailure};
use crate::cache::places::Places;
use crate::cache::runs::AttemptReport;
use crate::engine::{self, stop::Stop};
use crate::error::Error;
use crate::session::{Session, Task};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use study::hidden;

/// What a thread tells about its work before it is done.
pub enum WorkerEvent {
    /// The attempt's events and its log grow there; its outputs will lie elsewhere.
    Follow { events: PathBuf, log: PathBuf, places: Places },
    /// Its job is on a node, or in the queue again.
    Runs(bool),
    /// A line for people.
    Say(String),
    /// Bytes that are moved, of all.
    Moved(u64, u64),
    /// An attempt has ended.
    Attempted(Box<AttemptReport>),
}

/// Why an attempt gave no result.
#[derive(Debug)]
pub enum Unmade {
    /// It was not started: these are not what its key says, so another key is to be looked for.
    Stale(Vec<Change>),
    Failed(Box<TaskFailure>),
}

impl From<Failure> for Unmade {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure.into()))
    }
}

impl<E> From<E> for Unmade
where
    Error: From<E>,
{
    fn from(e: E) -> Self {
        Failure::Error { text: hidden(&Error::from(e).to_string()).into_owned() }.into()
    }
}

/// When an attempt began.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// Seconds since 1970.
    pub at: u64,
    pub clock: Instant,
}

/// A task that is to be tried.
pub struct Job<'a> {
    pub session: &'a Session,
    pub task: Arc<Task>,
    pub run: &'a str,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    pub begun: Begun,
    pub log: PathBuf,
    /// GPUs that are ours.
    pub gpus: Vec<String>,
    /// The newest result of its key when it was looked up and not found.
    pub seen: Option<u64>,
    pub stop: &'a Stop,
    /// Takes the lock by which others know that this run waits for jobs of a cluster.
    pub claim: &'a dyn Fn() -> engine::Result<()>,
    /// Whoever listens.
    pub tell: &'a dyn Fn(WorkerEvent),
}

impl Job<'_> {
    /// Says a line to people.
    pub fn say(&self, text: String) {
        (self.tell)(WorkerEvent::Say(text));
    }
}

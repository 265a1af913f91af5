//! Where an attempt is executed.

use crate::engine::attempt::Attempt;
use crate::engine::error::Result;
use crate::engine::steady::Part;
use crate::engine::stop::Stop;
use crate::session::{Session, Unit};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Duration;
use store::lock::Lock;
use study::graph::Step;

/// How long a stage that was asked to stop may take to save what can be resumed.
pub const GRACE: Duration = Duration::from_secs(30);

/// One attempt that is to be executed.
pub struct Work<'a> {
    pub session: &'a Session,
    pub unit: &'a Unit,
    pub attempt: &'a Attempt,
    /// What it runs and reads of the study.
    pub parts: &'a [Part],
    /// The action's lock, to be held by whatever runs.
    pub lock: &'a Lock,
    /// GPUs that the attempt may use.
    pub gpus: &'a [String],
    pub stop: &'a Stop,
    /// Where a line for people goes.
    pub feed: &'a Sender<Note>,
}

impl Work<'_> {
    /// The step that the attempt is of.
    pub fn step(&self) -> &Step {
        &self.session.graph.steps[self.unit.step]
    }
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It was not started, as these parts are no longer what its key says.
    Stale(Vec<String>),
    /// Exit 0, but these files were written while it ran.
    Disturbed(Vec<String>),
    /// Exit 0 after so many seconds.
    Success(f64),
    Exit(u8),
    Signal(u8),
    Timeout,
    Stopped,
}

/// A place where attempts are executed.
pub trait Engine: Sync {
    /// Executes an attempt to its end, or until it was asked to stop and has stopped.
    fn execute(&self, work: &Work) -> Result<End>;
}

/// What a worker tells about its stage.
pub enum Note {
    /// The attempt's events file and its log; the log's last line is shown while there are no events.
    Follow(PathBuf, PathBuf),
    /// A line for people.
    Say(String),
    /// Work begins that has no process of its own.
    Begin(String),
    /// Bytes of such work that are done, of all.
    Progress(u64, u64),
}

//! Where an attempt is executed.

use crate::cache::failure::Change;
use crate::engine::attempt::Attempt;
use crate::engine::steady::Part;
use crate::engine::stop::Stop;
use crate::session::{Session, Task};
use store::lock::Lock;
use study::graph::Step;

/// One attempt that is to be executed.
pub struct Work<'a> {
    pub session: &'a Session,
    pub task: &'a Task,
    pub attempt: &'a Attempt,
    /// What it runs and reads of the study.
    pub parts: &'a [Part],
    /// The action's lock, to be held by whatever runs.
    pub lock: &'a Lock,
    /// GPUs that the attempt may use.
    pub gpus: &'a [String],
    pub stop: &'a Stop,
}

impl Work<'_> {
    /// The step that the attempt is of.
    pub fn step(&self) -> &Step {
        &self.session.graph.steps[self.task.step]
    }
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It was not started, as these parts are no longer what its key says.
    Stale(Vec<Change>),
    /// Exit 0, but these files were written while it ran.
    Disturbed(Vec<Change>),
    /// Exit 0 after so many seconds.
    Success(f64),
    Exit(u8),
    Signal(u8),
    Timeout,
    Stopped,
}

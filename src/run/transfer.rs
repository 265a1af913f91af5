//! One result on its way between the store and the shared cache, on a thread beside the stages.

use crate::cache::remote::Progress;
use crate::cache::results::{self, ActionResult};
use crate::engine::stop::Stop;
use crate::error::Result;
use crate::run::job::WorkerEvent;
use crate::session::{Session, Task};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often progress is told.
const TELL: Duration = Duration::from_millis(100);

/// Brings a result from the cache, if it has it; the store may have it by now.
pub fn fetch(session: &Session, task: &Task, progress: &dyn Progress) -> Result<Option<ActionResult>> {
    let (store, Some(remote)) = (&session.store, &session.remote) else { return Ok(None) };
    let busy = || progress.say("waiting for another runner that does the same");
    let lock = store.lock(&task.key, busy, || progress.stopped())?;
    if lock.is_none() || !remote.answers() {
        return Ok(None);
    }
    match results::lookup(store, &task.key)? {
        None => Ok(remote.fetch(store, &task.key, progress)?),
        found => Ok(found),
    }
}

/// Sends a result to the cache, if it takes any. Gives what was sent.
pub fn send(
    session: &Session,
    task: &Task,
    outcome: &ActionResult,
    progress: &dyn Progress,
) -> Result<Option<ActionResult>> {
    let Some(remote) = &session.remote else { return Ok(None) };
    let sent = remote.takes() && remote.send(&session.store, &task.key, outcome, progress)?;
    Ok(sent.then(|| outcome.clone()))
}

/// Tells how a transfer gets on, now and then.
pub struct TransferProgress<'a> {
    tell: &'a (dyn Fn(WorkerEvent) + Sync),
    stop: &'a Stop,
    told: Mutex<Option<Instant>>,
}

impl<'a> TransferProgress<'a> {
    /// Nothing was told yet.
    pub fn new(tell: &'a (dyn Fn(WorkerEvent) + Sync), stop: &'a Stop) -> Self {
        Self { tell, stop, told: Mutex::default() }
    }
}

impl Progress for TransferProgress<'_> {
    fn moved(&self, done: u64, total: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= TELL) {
            *told = Some(Instant::now());
            (self.tell)(WorkerEvent::Moved(done, total));
        }
    }

    fn say(&self, text: &str) {
        (self.tell)(WorkerEvent::Say(text.into()));
    }

    fn stopped(&self) -> bool {
        self.stop.asked()
    }
}

//! The threads on which tasks are tried and results travel, and the one channel on which the driver hears of them.

use crate::cache::events::Direction;
use crate::cache::results::ActionResult;
use crate::error::Result;
use crate::run::job::{Unmade, WorkerEvent};
use crate::run::scheduler::TaskId;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{Builder, Scope};
use std::time::Instant;

/// What the driver hears.
pub enum Message {
    /// Of an attempt, or of a transfer.
    Tells(TaskId, Option<Direction>, WorkerEvent),
    Ended(TaskId, Result<ActionResult, Unmade>),
    Moved(TaskId, Direction, Result<Option<ActionResult>>),
}

/// Threads that end before the run does.
pub struct Threads<'s, 'e> {
    scope: &'s Scope<'s, 'e>,
    sender: Sender<Message>,
    receiver: Receiver<Message>,
}

impl<'s, 'e> Threads<'s, 'e> {
    pub fn new(scope: &'s Scope<'s, 'e>) -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { scope, sender, receiver }
    }

    /// Does some work on a thread of its own.
    pub fn spawn(&self, work: impl FnOnce(&Teller) + Send + 's) -> io::Result<()> {
        let teller = Teller(self.sender.clone());
        Builder::new().spawn_scoped(self.scope, move || work(&teller)).map(drop)
    }

    /// What is to be heard already.
    pub fn heard(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// What is to be heard before `until`.
    pub fn wait(&self, until: Instant) -> Option<Message> {
        self.receiver.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }
}

/// The end on which a thread speaks.
pub struct Teller(Sender<Message>);

impl Teller {
    /// Nobody listens any more when the run is on its way out.
    pub fn tell(&self, message: Message) {
        let _ = self.0.send(message);
    }
}

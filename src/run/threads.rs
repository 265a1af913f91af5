//! The threads on which tasks are tried and results travel, and the one channel on which the driver hears of them.

use crate::cache::events::Direction;
use crate::cache::results::ActionResult;
use crate::engine::stop::Stop;
use crate::error::Result;
use crate::run::job::{Unmade, WorkerEvent};
use crate::run::scheduler::TaskId;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
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

    /// Does some work on a thread of its own. The run waits for what it gives: when the work panics, that is what
    /// `broken` makes of it.
    pub fn spawn(
        &self,
        work: impl FnOnce(&Teller) -> Message + Send + 's,
        broken: impl FnOnce(Broken) -> Message + Send + 's,
    ) -> io::Result<()> {
        let teller = Teller(self.sender.clone());
        let whole = move || {
            let done = catch_unwind(AssertUnwindSafe(|| work(&teller)));
            teller.tell(done.unwrap_or_else(|what| broken(Broken::new(&*what))));
        };
        Builder::new().spawn_scoped(self.scope, whole).map(drop)
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

/// Work of ours that panicked, which is a mistake of the runner.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the runner itself is broken: {0}")]
pub struct Broken(String);

impl Broken {
    fn new(what: &(dyn Any + Send)) -> Self {
        let text = what.downcast_ref::<&str>().map(|text| (*text).to_string());
        Self(text.or_else(|| what.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".into()))
    }
}

/// Asks the stages to stop when the thread that holds it panics: nobody would hear of them any more, and the run would
/// wait for them.
pub struct StopOnPanic<'a>(pub &'a Stop);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.ask();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::failure::Failure;
    use std::time::Duration;

    #[test]
    fn work_that_panics_gives_what_the_run_waits_for() {
        std::thread::scope(|scope| {
            let threads = Threads::new(scope);
            let broken = |b: Broken| {
                let failure = Failure::Error { text: b.to_string() };
                Message::Ended(TaskId(7), Err(failure.into()))
            };
            threads.spawn(|_| panic!("index {} is out of bounds", 3), broken).unwrap();
            let heard = threads.wait(Instant::now() + Duration::from_secs(30));
            let Some(Message::Ended(TaskId(7), Err(Unmade::Failed(failed)))) = heard else {
                panic!("nothing was heard")
            };
            let text = "failed: the runner itself is broken: index 3 is out of bounds";
            assert_eq!(failed.failure.to_string(), text);
        });
    }
}

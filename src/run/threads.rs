//! The threads on which tasks are tried and results travel, and the one channel on which the driver hears of them.

use crate::cache::events::Direction;
use crate::cache::results::ActionResult;
use crate::engine::stop::Stop;
use crate::error::Result;
use crate::run::job::{Unmade, WorkerEvent};
use crate::run::scheduler::TaskId;
use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::Instant;

/// What the driver hears.
pub enum Message {
    /// Of an attempt, or of a transfer.
    Tells(TaskId, Option<Direction>, WorkerEvent),
    Ended(TaskId, Result<ActionResult, Unmade>),
    Moved(TaskId, Direction, Result<Option<ActionResult>>),
}

/// This many tasks of a cluster are prepared, or their outputs taken in, at a time.
const POOL: usize = 8;

/// Some work that is to be done.
type Errand<'s> = Box<dyn FnOnce(&Teller) + Send + 's>;

/// Threads that end before the run does.
pub struct Threads<'s, 'e> {
    pub hands: Hands<'s, 'e>,
    receiver: Receiver<Message>,
}

/// What begins work on threads, for whoever has some.
#[derive(Clone)]
pub struct Hands<'s, 'e> {
    scope: &'s Scope<'s, 'e>,
    sender: Sender<Message>,
    pool: Arc<Mutex<Pool<'s>>>,
}

/// Work that waits for one of a few threads.
#[derive(Default)]
struct Pool<'s> {
    waiting: VecDeque<Errand<'s>>,
    threads: usize,
}

impl<'s, 'e> Hands<'s, 'e>
where
    'e: 's,
{
    /// Does some work on a thread of its own, which tells what it gives. When it panics, what `broken` makes of that is told,
    /// for the run waits.
    pub fn spawn(
        &self,
        work: impl FnOnce(&Teller) + Send + 's,
        broken: impl FnOnce(Broken) -> Message + Send + 's,
    ) -> io::Result<()> {
        let teller = Teller(self.sender.clone());
        let whole = move || guarded(work, broken)(&teller);
        Builder::new().spawn_scoped(self.scope, whole).map(drop)
    }

    /// Does some work on one of a few threads, when its turn comes.
    pub fn queue(
        &self,
        work: impl FnOnce(&Teller) + Send + 's,
        broken: impl FnOnce(Broken) -> Message + Send + 's,
    ) -> io::Result<()> {
        let mut pool = self.pool();
        pool.waiting.push_back(Box::new(guarded(work, broken)));
        if pool.threads == POOL {
            return Ok(());
        }
        let (all, teller) = (self.clone(), Teller(self.sender.clone()));
        let turns = move || {
            loop {
                let mut pool = all.pool();
                let Some(work) = pool.waiting.pop_front() else {
                    pool.threads -= 1;
                    return;
                };
                drop(pool);
                work(&teller);
            }
        };
        match Builder::new().spawn_scoped(self.scope, turns) {
            Ok(_) => pool.threads += 1,
            // Another one does it; where there is none, nobody will.
            Err(e) if pool.threads == 0 => {
                pool.waiting.pop_back();
                return Err(e);
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn pool(&self) -> MutexGuard<'_, Pool<'s>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work that tells also when it panics.
fn guarded<'s>(
    work: impl FnOnce(&Teller) + Send + 's,
    broken: impl FnOnce(Broken) -> Message + Send + 's,
) -> impl FnOnce(&Teller) + Send + 's {
    move |teller| {
        if let Err(what) = catch_unwind(AssertUnwindSafe(|| work(teller))) {
            teller.tell(broken(Broken::new(&*what)));
        }
    }
}

impl<'s, 'e> Threads<'s, 'e> {
    pub fn new(scope: &'s Scope<'s, 'e>) -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { hands: Hands { scope, sender, pool: Arc::default() }, receiver }
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
            threads.hands.spawn(|_| panic!("index {} is out of bounds", 3), broken).unwrap();
            let heard = threads.wait(Instant::now() + Duration::from_secs(30));
            let Some(Message::Ended(TaskId(7), Err(Unmade::Failed(failed)))) = heard else {
                panic!("nothing was heard")
            };
            let text = "failed: the runner itself is broken: index 3 is out of bounds";
            assert_eq!(failed.failure.to_string(), text);
        });
    }
}

//! What moves between the store and the shared cache while a study runs, on threads beside the stages.

use crate::cache::remote::{Progress, Remote};
use crate::cache::results::{self, Outcome};
use crate::cache::runs::Fate;
use crate::engine::contract::Note;
use crate::engine::stop::Stop;
use crate::error::{Error, Result};
use crate::run::state::{Done, Runner, Transfer};
use crate::screen::events::Events;
use crate::session::{Session, Unit};
use crate::text::size;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Results that are on their way at the same time.
const SIDE_BY_SIDE: usize = 4;
/// How often progress is told.
const TELL: Duration = Duration::from_millis(100);

impl Transfer {
    /// The unit whose fate hangs on it.
    pub(super) fn awaited(&self) -> Option<&Unit> {
        match self {
            Self::Fetch(unit) => Some(unit),
            Self::Send(..) => None,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Fetch(unit) => unit.label.clone(),
            Self::Send(unit, _) => format!("{} (sending)", unit.label),
        }
    }

    fn work(&self, session: &Session, progress: &TransferProgress) -> Result<Option<Outcome>> {
        let (store, Some(remote)) = (&session.store, &session.remote) else { return Ok(None) };
        match self {
            Self::Fetch(unit) => {
                let busy = || progress.say("waiting for another runner that does the same");
                let lock = store.lock(&unit.key, busy, || progress.stopped())?;
                if lock.is_none() || !remote.answers() {
                    return Ok(None);
                }
                match results::lookup(store, &unit.key)? {
                    None => Ok(remote.fetch(store, &unit.key, progress)?),
                    found => Ok(found),
                }
            }
            Self::Send(unit, outcome) => {
                let sent = remote.takes() && remote.send(store, &unit.key, outcome, progress)?;
                Ok(sent.then(|| (**outcome).clone()))
            }
        }
    }
}

/// Tells the screen how a transfer gets on.
struct TransferProgress {
    feed: Sender<Note>,
    stop: Arc<Stop>,
    what: &'static str,
    told: Mutex<Option<Instant>>,
}

impl Progress for TransferProgress {
    fn moved(&self, done: u64, total: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|at| at.elapsed() < TELL) {
            return;
        }
        // Nobody listens any more when the runner is on its way out; so below.
        if told.is_none() {
            let _ = self.feed.send(Note::Begin(format!("{} {}", self.what, size(total))));
        }
        *told = Some(Instant::now());
        let _ = self.feed.send(Note::Progress(done, total));
    }

    fn say(&self, text: &str) {
        let _ = self.feed.send(Note::Say(text.into()));
    }

    fn stopped(&self) -> bool {
        self.stop.asked()
    }
}

impl Runner<'_> {
    /// A unit that the store does not have is looked for in the cache, if there is one, before it is queued.
    pub(super) fn seek(&mut self, unit: Unit) {
        let asked = self.session.remote.as_ref().is_some_and(Remote::answers);
        if asked && !self.session.forced.contains(&unit.step) {
            self.transfers.push(Transfer::Fetch(unit));
        } else {
            self.enqueue(unit);
        }
    }

    /// Shares a result that was made here.
    pub(super) fn share(&mut self, unit: &Unit, outcome: &Outcome) {
        if self.session.remote.as_ref().is_some_and(Remote::takes) {
            self.transfers.push(Transfer::Send(unit.clone(), Box::new(outcome.clone())));
        }
    }

    /// Starts what waits. After a failure only results are still sent; when asked to stop, nothing is: they are safe
    /// in the store, and `push` sends them later.
    pub(super) fn dispatch_transfers<'s>(
        &mut self,
        scope: &'s std::thread::Scope<'s, '_>,
        sender: &Sender<Done>,
    ) where
        Self: 's,
    {
        let (asked, stopping) = (self.stop.asked(), self.stopping());
        self.transfers.retain(|t| !asked && (!stopping || t.awaited().is_none()));
        while self.moving.len() < SIDE_BY_SIDE && !self.transfers.is_empty() {
            let transfer = self.transfers.remove(0);
            let (events, feed) = Events::new();
            self.moving.insert(transfer.name(), (transfer.clone(), events));
            let what = if transfer.awaited().is_some() { "fetching" } else { "sending" };
            let courier =
                TransferProgress { feed, stop: Arc::clone(&self.stop), what, told: Mutex::default() };
            let (session, sender) = (self.session, sender.clone());
            scope.spawn(move || {
                let moved = transfer.work(session, &courier);
                // The receiver lives as long as anything runs.
                let _ = sender.send(Done::Moved(Box::new((transfer, moved))));
            });
        }
    }

    /// Takes in what became of a transfer.
    pub(super) fn moved(&mut self, transfer: Transfer, moved: Result<Option<Outcome>>) -> Result<()> {
        let name = transfer.name();
        if let Some((_, mut events)) = self.moving.remove(&name) {
            events.show(&name, &mut self.screen);
        }
        let moved = match moved {
            Err(Error::Cache(e)) => {
                let remote = self.session.remote.as_ref();
                let warning = remote.and_then(|r| r.failed(&e, transfer.awaited().is_none()));
                self.screen.finish_quietly(&name);
                warning.iter().for_each(|line| self.screen.say(line));
                None
            }
            Err(Error::Interrupted) => None,
            moved => moved?,
        };
        let bytes = |outcome: &Outcome| size(outcome.outputs.values().map(|o| o.bytes).sum());
        match (transfer, moved) {
            (Transfer::Fetch(unit), Some(outcome)) => {
                self.screen.finish(&name, &format!("fetched {} from the cache", bytes(&outcome)));
                let step = unit.step;
                self.progress[step].fetched += 1;
                self.progress[step].reason = "from the cache".into();
                self.complete(unit, outcome)?;
                self.settle(step)
            }
            (Transfer::Fetch(unit), None) => {
                self.screen.finish_quietly(&name);
                let step = unit.step;
                self.enqueue(unit);
                self.settle(step)
            }
            (Transfer::Send(unit, _), Some(outcome)) => {
                self.screen.finish_quietly(&name);
                self.screen.say(&format!("{}: sent {} to the cache", unit.label, bytes(&outcome)));
                Ok(())
            }
            (Transfer::Send(..), None) => {
                self.screen.finish_quietly(&name);
                Ok(())
            }
        }
    }

    /// Queues a unit that has to run, unless it cannot run here or a person does not want it to.
    pub(super) fn enqueue(&mut self, unit: Unit) {
        if let Err(e) = self.slots.check(&self.session.graph.steps[unit.step]) {
            self.screen.say(&format!("{}: {e}", unit.label));
            let progress = &mut self.progress[unit.step];
            progress.failed = Some(Fate::Failed);
            progress.reason = format!("not run: {e}");
        } else if let Some(seconds) = self.costly(&unit) {
            self.ask(&unit, seconds);
        }
        if self.progress[unit.step].failed.is_none() && !self.progress[unit.step].anew {
            self.queue.push(unit);
        }
    }
}

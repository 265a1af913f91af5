//! Tasks that a cluster does: prepared and fetched by a few threads, waited for by one, however many there are.

use crate::cache::failure::Failure;
use crate::cache::places::Places;
use crate::engine;
use crate::engine::attempt::Attempt;
use crate::engine::batch::desk::{Desk, TICK};
use crate::engine::batch::waiting::{Arrival, Notice, Owner, Stand};
use crate::engine::contract::End;
use crate::engine::stop::Stop;
use crate::run::job::{Begun, Job, WorkerEvent};
use crate::run::places;
use crate::run::scheduler::TaskId;
use crate::run::threads::{Broken, Hands, Message, StopOnPanic, Teller};
use crate::run::worker::{Tried, fetch, work};
use crate::session::{Session, Task};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A task that is to be tried.
#[derive(Clone)]
pub struct Errand {
    pub id: TaskId,
    pub task: Arc<Task>,
    /// The number of this attempt, from 1, and when it began.
    pub attempt: u32,
    pub begun: Begun,
    pub log: PathBuf,
    pub gpus: Vec<String>,
    /// The newest result of its key when it was looked up and not found.
    pub seen: Option<u64>,
    /// Where its job reports: its events, its log, and where its outputs will lie.
    pub follow: Option<(PathBuf, PathBuf, Places)>,
}

/// A task that is brought to the desk, and how far it is.
type Brought = Box<(Errand, Stand)>;

impl Errand {
    /// Where what its job reports is found, once.
    fn followed(&mut self) -> Option<WorkerEvent> {
        let (events, log, places) = self.follow.take()?;
        Some(WorkerEvent::Follow { events, log, places })
    }
}

/// What the threads of a run share.
pub struct Far<'s, 'e> {
    hands: Hands<'s, 'e>,
    session: &'s Session,
    run: &'s str,
    stop: &'s Stop,
    /// Since the first task of a cluster.
    owner: OnceLock<Owner>,
    claiming: Mutex<()>,
    /// The way to the desk, since there is one.
    door: Mutex<Option<Sender<Brought>>>,
}

impl<'s, 'e: 's> Far<'s, 'e> {
    pub fn new(hands: &Hands<'s, 'e>, session: &'s Session, run: &'s str, stop: &'s Stop) -> Arc<Self> {
        let (owner, claiming, door) = (OnceLock::new(), Mutex::new(()), Mutex::new(None));
        Arc::new(Self { hands: hands.clone(), session, run, stop, owner, claiming, door })
    }

    /// Tries a task on this thread; one that a cluster does goes to the desk.
    pub fn attempt(self: &Arc<Self>, errand: Errand, teller: &Teller) {
        match self.with(&errand, teller, work) {
            Ok(Tried::Made(outcome)) => teller.tell(Message::Ended(errand.id, Ok(*outcome))),
            Ok(Tried::Far(stand)) => self.bring(errand, stand, teller),
            Err(unmade) => teller.tell(Message::Ended(errand.id, Err(unmade))),
        }
    }

    /// Nobody comes any more.
    pub fn close(&self) {
        self.door.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn with<T>(&self, errand: &Errand, teller: &Teller, act: impl FnOnce(&Job) -> T) -> T {
        let Errand { id, task, attempt, begun, log, gpus, seen, .. } = errand.clone();
        let tell = |event| teller.tell(Message::Tells(id, None, event));
        let claim = || self.owner().map(drop);
        let (session, run, stop) = (self.session, self.run, self.stop);
        act(&Job { session, task, run, attempt, begun, log, gpus, seen, stop, claim: &claim, tell: &tell })
    }

    fn owner(&self) -> engine::Result<&Owner> {
        let _one = self.claiming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = self.owner.get() {
            return Ok(owner);
        }
        let owner = Owner::of(&self.session.store, self.run)?;
        Ok(self.owner.get_or_init(|| owner))
    }

    /// Brings a task to the desk, which begins with the first one.
    fn bring(self: &Arc<Self>, mut errand: Errand, stand: Stand, teller: &Teller) {
        if let Stand::New(attempt) | Stand::Left(attempt) = &stand {
            let places = places::kept(self.session, &errand.task, attempt);
            errand.follow = Some((attempt.events.clone(), attempt.log.clone(), places));
        }
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        if door.is_none() {
            let (sender, receiver) = mpsc::channel();
            let far = Arc::clone(self);
            // When this panics, nothing that it waits for would ever end.
            let stop = self.stop;
            let serve = move |teller: &Teller| {
                let _stops = StopOnPanic(stop);
                far.serve(&receiver, teller);
            };
            let id = errand.id;
            match self.hands.spawn(serve, move |e| broken(id, &e)) {
                Ok(()) => *door = Some(sender),
                Err(e) => return no_thread(errand.id, &e, teller),
            }
        }
        // It listens until the door is closed.
        let _ = door.as_ref().map(|door| door.send(Box::new((errand, stand))));
    }

    /// Waits for all of them.
    fn serve(self: &Arc<Self>, arrivals: &Receiver<Brought>, teller: &Teller) {
        let owner = match self.owner() {
            Ok(owner) => owner,
            Err(e) => {
                let text = e.to_string();
                for (errand, _) in arrivals.iter().map(|arrival| *arrival) {
                    let failure = Failure::Error { text: text.clone() };
                    teller.tell(Message::Ended(errand.id, Err(failure.into())));
                }
                return;
            }
        };
        let mut desk = Desk::new(self.session, self.stop, owner);
        let mut errands: BTreeMap<usize, Errand> = BTreeMap::new();
        loop {
            let first = arrivals.recv_timeout(TICK);
            if matches!(first, Err(RecvTimeoutError::Disconnected)) && desk.is_empty() {
                return;
            }
            for arrival in first.into_iter().chain(arrivals.try_iter()) {
                let (errand, stand) = *arrival;
                let (ticket, task) = (errand.id.0, Arc::clone(&errand.task));
                errands.insert(ticket, errand);
                desk.arrive(Arrival { ticket, task, stand });
            }
            desk.turn(&mut |ticket, notice| self.notice(&mut errands, ticket, notice, teller));
        }
    }

    fn notice(
        self: &Arc<Self>,
        errands: &mut BTreeMap<usize, Errand>,
        ticket: usize,
        notice: Notice,
        teller: &Teller,
    ) {
        let id = TaskId(ticket);
        let tell = |event| teller.tell(Message::Tells(id, None, event));
        match notice {
            Notice::Say(text) => tell(WorkerEvent::Say(text)),
            Notice::Runs(runs) => {
                tell(WorkerEvent::Runs(runs));
                errands
                    .get_mut(&ticket)
                    .filter(|_| runs)
                    .and_then(Errand::followed)
                    .into_iter()
                    .for_each(tell);
            }
            Notice::Stopped => {
                errands.remove(&ticket);
                teller.tell(Message::Ended(id, Err(Failure::Stopped.into())));
            }
            Notice::Anew => {
                let Some(errand) = errands.remove(&ticket) else { return };
                let far = Arc::clone(self);
                self.queue(id, move |teller| far.attempt(errand, teller), teller);
            }
            Notice::Over(attempt, end) => {
                let Some(mut errand) = errands.remove(&ticket) else { return };
                // What it said until now is shown before its end.
                errand.followed().into_iter().for_each(tell);
                let far = Arc::clone(self);
                self.queue(id, move |teller| far.fetch(&errand, &attempt, *end, teller), teller);
            }
        }
    }

    fn queue(&self, id: TaskId, work: impl FnOnce(&Teller) + Send + 's, teller: &Teller) {
        if let Err(e) = self.hands.queue(work, move |e| broken(id, &e)) {
            no_thread(id, &e, teller);
        }
    }

    fn fetch(&self, errand: &Errand, attempt: &Attempt, end: engine::Result<End>, teller: &Teller) {
        let made = self.with(errand, teller, |job| fetch(job, attempt, end?));
        teller.tell(Message::Ended(errand.id, made));
    }
}

/// A task at which the runner itself broke.
pub fn broken(id: TaskId, e: &Broken) -> Message {
    Message::Ended(id, Err(Failure::Error { text: e.to_string() }.into()))
}

/// A task that no thread can be found for.
fn no_thread(id: TaskId, e: &std::io::Error, teller: &Teller) {
    let failure = Failure::Error { text: format!("starting a thread: {e}") };
    teller.tell(Message::Ended(id, Err(failure.into())));
}

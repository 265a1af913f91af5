//! The one place where all jobs of a run are waited for: one thread, one lock and one question to their batch system
//! for all of them, however many there are.

use super::awaited::{Came, Job};
use super::known::{Seen, Verdict};
use super::nodes;
use super::pace::Pace;
use super::papers::{self, Ended};
use super::queue::Queue;
use super::submission::{Of, Submission};
use super::system::{Named, System, interval};
use super::systems::Systems;
use super::waiting::{Arrival, Notice, Owner, Stand, Ticket};
use crate::engine::error::{Error, Result};
use crate::engine::stop::Stop;
use crate::session::Session;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use store::{link, lock};

/// How often jobs are looked at.
pub const TICK: Duration = Duration::from_millis(200);
/// This many jobs are looked at in one tick, the others in those that follow.
const AT_ONCE: usize = 16;
/// The same of those that are said to be over.
const ENDED_AT_ONCE: usize = 256;

/// See the module.
pub struct Desk<'a> {
    session: &'a Session,
    stop: &'a Stop,
    queue: Queue<'a>,
    jobs: BTreeMap<Ticket, Job>,
    busy: BTreeMap<Ticket, PathBuf>,
    /// The jobs whose turn it is to be looked at: of those that may be over, and of the others.
    turns: [Ticket; 2],
    systems: Systems,
    /// What was asked of each system.
    questions: BTreeMap<usize, Question>,
}

/// The questions to a system.
#[derive(Default)]
struct Question {
    pace: Pace,
    /// What the last one came to when it failed.
    trouble: Option<String>,
}

impl<'a> Desk<'a> {
    /// An empty one.
    pub fn new(session: &'a Session, stop: &'a Stop, owner: &'a Owner) -> Self {
        let queue = Queue::new(session, owner);
        let (jobs, busy, questions) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { session, stop, queue, jobs, busy, turns: [0; 2], systems: Systems::default(), questions }
    }

    /// Whether nobody is waited for.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.busy.is_empty() && self.queue.is_empty()
    }

    /// Somebody comes.
    pub fn arrive(&mut self, arrival: Arrival) {
        let Arrival { ticket, task, stand } = arrival;
        match stand {
            Stand::Busy(lock) => drop(self.busy.insert(ticket, lock)),
            Stand::New(attempt) => self.queue.push(ticket, task, attempt),
            Stand::Left(attempt) => {
                let mut submission = Submission::read(&attempt.folder).unwrap_or_default();
                submission.of = submission.of.or_newer(Of::step(&self.session.graph.steps[task.step]));
                let system = self.systems.place(&submission.of);
                let mut job = Job::new(task, attempt, submission, system);
                job.left = true;
                self.jobs.insert(ticket, job);
            }
        }
    }

    /// Does what is to be done now. What is to be told of whom goes to `tell`.
    pub fn turn(&mut self, tell: &mut dyn FnMut(Ticket, Notice)) {
        let level = self.stop.level();
        if level > 0 {
            self.queue.clear().into_iter().for_each(|ticket| tell(ticket, Notice::Stopped));
            std::mem::take(&mut self.busy).into_keys().for_each(|ticket| tell(ticket, Notice::Stopped));
        }
        let jobs = &self.jobs;
        let inside = |place| jobs.values().filter(|job| job.system == place).count();
        for (ticket, task, attempt, answer) in self.queue.submit(&mut self.systems, inside, tell) {
            match answer {
                Ok(submission) => {
                    let id = submission.id.clone().unwrap_or_default();
                    tell(ticket, Notice::Say(format!("submitted as job {id}")));
                    let system = self.systems.place(&submission.of);
                    self.jobs.insert(ticket, Job::new(task, attempt, submission, system));
                }
                Err(text) => tell(ticket, Notice::over(attempt, Err(Error::Refused(text)))),
            }
        }
        self.hand_on(level);
        self.ask(tell);
        self.look(tell);
        self.look_at_busy(tell);
    }

    /// Hands the wish to stop on to all jobs that do not know of it.
    fn hand_on(&mut self, level: u8) {
        let steps = &self.session.graph.steps;
        for place in self.systems.places() {
            let mut ids = Vec::new();
            for job in self.jobs.values_mut().filter(|job| job.system == place && job.told < level) {
                let Some(id) = &job.submission.id else { continue };
                job.told = level;
                ids.push(id.clone());
                if steps[job.task.step].processes.is_some_and(|processes| processes.nodes > 1) {
                    nodes::stop(&job.attempt.folder);
                }
                if level > 1 {
                    papers::kill(&job.attempt.folder);
                }
            }
            if !ids.is_empty() {
                self.systems.at(place).tell(&ids, level);
                if let Some(question) = self.questions.get_mut(&place) {
                    question.pace.hurry();
                }
            }
        }
    }

    /// Asks each system about all of its jobs together, when it is time: once in every interval, and once more for those
    /// that are new.
    fn ask(&mut self, tell: &mut dyn FnMut(Ticket, Notice)) {
        for place in self.systems.places() {
            let steps = &self.session.graph.steps;
            let of = |job: &&Job| job.system == place;
            let jobs = || self.jobs.values().filter(of);
            let Some(interval) = jobs().map(|job| interval(&steps[job.task.step])).min() else { continue };
            let fresh = jobs().any(|job| job.seen == Seen::Unasked);
            let calls = if jobs().any(|job| job.submission.id.is_none()) { 2 } else { 1 };
            let earlier = || Question { pace: Pace::after(&self.session.store.asked()), trouble: None };
            let question = self.questions.entry(place).or_insert_with(earlier);
            if question.pace.is_due(Instant::now(), interval, calls, fresh) {
                self.question(place, tell);
            }
        }
    }

    /// Asks one of them.
    fn question(&mut self, place: usize, tell: &mut dyn FnMut(Ticket, Notice)) {
        let system = self.systems.at(place);
        let Question { pace, trouble: before } = self.questions.entry(place).or_default();
        let note = self.session.store.asked();
        let found = find_ids(system, place, &mut self.jobs, |ask| pace.call(&note, ask));
        let answer = found.and_then(|()| {
            let jobs = self.jobs.values().filter(|job| job.system == place);
            let ids: Vec<String> = jobs.filter_map(|job| job.submission.id.clone()).collect();
            if ids.is_empty() { Ok(BTreeMap::new()) } else { pace.call(&note, || system.states(&ids)) }
        });
        let trouble = match answer {
            Ok(mut known) => {
                for job in self.jobs.values_mut().filter(|job| job.system == place) {
                    let found = job.submission.id.as_ref().and_then(|id| known.remove(id));
                    job.seen = found.map_or(Seen::Unknown, Seen::Known);
                }
                None
            }
            Err(text) => Some(text),
        };
        let first = self.jobs.iter().find(|(_, job)| job.system == place).map(|(ticket, _)| *ticket);
        if let Some(ticket) = first.filter(|_| trouble != *before) {
            let text = match &trouble {
                Some(text) => format!("{text}; asking on"),
                None => format!("{} answers again", system.asker()),
            };
            tell(ticket, Notice::Say(text));
        }
        *before = trouble;
    }

    /// Looks at what jobs wrote, at those that may be over first.
    fn look(&mut self, tell: &mut dyn FnMut(Ticket, Notice)) {
        let closed = |job: &Job| match &job.seen {
            Seen::Known(known) => known.verdict != Verdict::Open,
            Seen::Unknown => true,
            Seen::Unasked => job.left,
        };
        let mut due = Vec::new();
        for (turn, is_closed, most) in [(0, true, ENDED_AT_ONCE), (1, false, AT_ONCE)] {
            let from = self.turns[turn];
            let after = self.jobs.range(from..).chain(self.jobs.range(..from));
            let some = after.filter(|(_, job)| closed(job) == is_closed).map(|(ticket, _)| *ticket);
            let before = due.len();
            due.extend(some.take(most));
            self.turns[turn] = due[before..].last().map_or(0, |last| last + 1);
        }
        let (stopping, mut to_cancel) = (self.stop.asked(), BTreeMap::<usize, Vec<String>>::new());
        for ticket in due {
            let Some(job) = self.jobs.get_mut(&ticket) else { continue };
            let trouble = self.questions.get(&job.system).and_then(|question| question.trouble.as_deref());
            let system = self.systems.at(job.system);
            let cancel = to_cancel.entry(job.system).or_default();
            match job.verdict(system, stopping, trouble, cancel, &mut |notice| tell(ticket, notice)) {
                Came::Nothing => {}
                Came::Over(end) => {
                    if let Some(job) = self.jobs.remove(&ticket) {
                        // Opening the folder makes a network file system look again what is in it.
                        let _ = fs::read_dir(&job.attempt.out);
                        tell(ticket, Notice::over(job.attempt, end));
                    }
                }
                Came::Lost => {
                    self.jobs.remove(&ticket);
                    tell(ticket, Notice::Anew);
                }
                Came::Again(why) => {
                    let Some(job) = self.jobs.remove(&ticket) else { continue };
                    tell(ticket, Notice::Say(format!("{why}; submitting again, to go on from its state")));
                    let cleared = self.queue.owner.claim(&job.attempt.folder);
                    match cleared.and_then(|()| Ok(link::remove(&Ended::path(&job.attempt.folder))?)) {
                        Ok(()) => self.queue.push(ticket, job.task, job.attempt),
                        Err(e) => tell(ticket, Notice::over(job.attempt, Err(e))),
                    }
                }
            }
        }
        for (place, ids) in to_cancel.into_iter().filter(|(_, ids)| !ids.is_empty()) {
            self.systems.at(place).tell(&ids, 2);
        }
    }

    /// Looks whether others are done with what they do.
    fn look_at_busy(&mut self, tell: &mut dyn FnMut(Ticket, Notice)) {
        let locks: BTreeSet<PathBuf> = self.busy.values().take(AT_ONCE).cloned().collect();
        for path in locks {
            // One that cannot be looked at is left to whoever tries it anew.
            if lock::attempt(&path, false).is_ok_and(|held| held.is_none()) {
                continue;
            }
            let free: Vec<Ticket> =
                self.busy.iter().filter(|(_, lock)| **lock == path).map(|(ticket, _)| *ticket).collect();
            for ticket in free {
                self.busy.remove(&ticket);
                tell(ticket, Notice::Anew);
            }
        }
    }
}

/// What a system says of names.
type Found = Result<BTreeMap<Named, String>, String>;

/// The numbers of jobs whose runner was killed while it submitted them.
fn find_ids(
    system: &dyn System,
    place: usize,
    jobs: &mut BTreeMap<Ticket, Job>,
    call: impl FnOnce(&dyn Fn() -> Vec<Found>) -> Vec<Found>,
) -> Result<(), String> {
    let nameless = |job: &&mut Job| job.system == place && job.submission.id.is_none();
    let mut names: BTreeMap<Option<String>, BTreeSet<String>> = BTreeMap::new();
    for job in jobs.values_mut().filter(nameless) {
        let Submission { cluster, name, .. } = &job.submission;
        names.entry(cluster.clone()).or_default().insert(name.clone());
    }
    if names.is_empty() {
        return Ok(());
    }
    // Each cluster has a controller of its own, which is called once.
    let find = || names.iter().map(|(cluster, names)| system.find(names, cluster.as_deref())).collect();
    let found = call(&find);
    for found in found {
        let found = found?;
        for job in jobs.values_mut().filter(nameless) {
            let Some(id) = found.get(&(job.submission.name.clone(), job.submission.index)) else { continue };
            job.submission.id = Some(id.clone());
            // At worst the next runner asks again.
            let _ = job.submission.write(&job.attempt.folder);
        }
    }
    Ok(())
}

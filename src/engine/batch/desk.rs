//! The one place where all jobs of a run are waited for: one thread, one lock and one question to their batch system
//! for all of them, however many there are.

use super::known::{Known, Over, Seen, Verdict};
use super::nodes;
use super::papers::{self, Ended};
use super::queue::Queue;
use super::submission::{Of, Submission};
use super::system::{System, interval};
use super::systems::Systems;
use super::waiting::{Arrival, Notice, Owner, Stand, Ticket};
use crate::engine::attempt::Attempt;
use crate::engine::contract::End;
use crate::engine::error::{Error, Result};
use crate::engine::stop::Stop;
use crate::session::{Session, Task};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{link, lock};

/// How often jobs are looked at.
pub const TICK: Duration = Duration::from_millis(200);
/// This many jobs are looked at in one tick, the others in those that follow.
const AT_ONCE: usize = 16;
/// The same of those that are said to be over.
const ENDED_AT_ONCE: usize = 256;
/// How long a shared file system may take to show an exit code that a node wrote.
const LAG: Duration = Duration::from_secs(10);

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

/// The last question to a system.
#[derive(Default)]
struct Question {
    asked: Option<Instant>,
    /// What it came to when it failed.
    trouble: Option<String>,
}

struct Job {
    task: Arc<Task>,
    attempt: Attempt,
    submission: Submission,
    /// The place of its system.
    system: usize,
    seen: Seen,
    /// Since when it is said to be over, and there is no exit code.
    silent: Option<Instant>,
    shown: String,
    /// How urgently it was asked to stop.
    told: u8,
    /// An earlier runner submitted it, and its system was not asked yet whether it is still there.
    left: bool,
    runs: bool,
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
                let job = Job { left: true, ..Job::new(task, attempt, submission, system) };
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
                self.questions.entry(place).or_default().asked = None;
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
            let pause =
                if fresh { (interval / 2).min(Duration::from_secs(1).max(interval / 4)) } else { interval };
            let asked = self.questions.get(&place).and_then(|question| question.asked);
            if asked.is_none_or(|at| at.elapsed() >= pause) {
                self.question(place, tell);
            }
        }
    }

    /// Asks one of them.
    fn question(&mut self, place: usize, tell: &mut dyn FnMut(Ticket, Notice)) {
        let system = self.systems.at(place);
        let answer = find_ids(system, place, &mut self.jobs).and_then(|()| {
            let jobs = self.jobs.values().filter(|job| job.system == place);
            let ids: Vec<String> = jobs.filter_map(|job| job.submission.id.clone()).collect();
            if ids.is_empty() { Ok(BTreeMap::new()) } else { system.states(&ids) }
        });
        let question = self.questions.entry(place).or_default();
        question.asked = Some(Instant::now());
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
        if let Some(ticket) = first.filter(|_| trouble != question.trouble) {
            let text = match &trouble {
                Some(text) => format!("{text}; asking on"),
                None => format!("{} answers again", system.asker()),
            };
            tell(ticket, Notice::Say(text));
        }
        question.trouble = trouble;
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
        let stopping = self.stop.asked();
        for ticket in due {
            let Some(job) = self.jobs.get_mut(&ticket) else { continue };
            let trouble = self.questions.get(&job.system).and_then(|question| question.trouble.as_deref());
            let system = self.systems.at(job.system);
            match job.verdict(system, stopping, trouble, &mut |notice| tell(ticket, notice)) {
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

/// What a look at a job came to.
enum Came {
    Nothing,
    Over(Result<End>),
    Lost,
    Again(String),
}

impl Job {
    fn new(task: Arc<Task>, attempt: Attempt, submission: Submission, system: usize) -> Self {
        let (seen, shown) = (Seen::Unasked, String::new());
        Self {
            task,
            attempt,
            submission,
            system,
            seen,
            silent: None,
            shown,
            told: 0,
            left: false,
            runs: false,
        }
    }

    /// What it wrote, and what its system says of it.
    fn verdict(
        &mut self,
        system: &dyn System,
        stopping: bool,
        trouble: Option<&str>,
        tell: &mut dyn FnMut(Notice),
    ) -> Came {
        let id = self.submission.id.clone().unwrap_or_default();
        if let Some(ended) = Ended::read(&self.attempt.folder, &self.submission.name) {
            match ended.end() {
                end if !ended.told => return Came::Over(Ok(end)),
                End::Success(seconds) => {
                    // Whoever wanted it to stop came too late; it is not to be started again.
                    system.tell(&[id], 2);
                    return Came::Over(Ok(End::Success(seconds)));
                }
                _ if stopping => return Came::Over(Ok(End::Stopped)),
                end => match &self.seen {
                    // Of one that an earlier runner told to stop, the state is there, and nothing else.
                    Seen::Known(known) if self.left && known.verdict != Verdict::Open => return Came::Lost,
                    Seen::Unknown if self.left => return Came::Lost,
                    // Who told it to stop, and whether it will be started again, is what the system knows.
                    Seen::Known(known) => match known.verdict {
                        Verdict::Open => {}
                        Verdict::Ended => return Came::Over(Ok(end)),
                        _ => return came(&id, known),
                    },
                    Seen::Unknown => return Came::Over(Ok(end)),
                    Seen::Unasked => {}
                },
            }
        }
        match &self.seen {
            Seen::Unasked => match trouble {
                Some(why) if self.left => Came::Over(Err(Error::JobLeft {
                    name: self.submission.name.clone(),
                    folder: self.attempt.folder.clone(),
                    why: why.into(),
                })),
                _ => Came::Nothing,
            },
            Seen::Known(known) if known.verdict == Verdict::Open => {
                (self.silent, self.left) = (None, false);
                let line = known.line(&id);
                if line != self.shown {
                    tell(Notice::Say(line.clone()));
                    self.shown = line;
                }
                if known.running != self.runs {
                    self.runs = known.running;
                    tell(Notice::Runs(self.runs));
                }
                Came::Nothing
            }
            _ if stopping => Came::Over(Ok(End::Stopped)),
            Seen::Known(known) if known.verdict == Verdict::Stuck => {
                let end = system.unseen(&id, &self.seen, &self.attempt).map_or_else(|| known.over(&id), Err);
                system.tell(&[id], 2);
                match end {
                    Ok(_) if self.left => Came::Lost,
                    Ok(_) => Came::Over(Ok(End::Stopped)),
                    Err(e) => Came::Over(Err(e)),
                }
            }
            _ if self.left => Came::Lost,
            seen => {
                if self.silent.get_or_insert_with(Instant::now).elapsed() <= LAG {
                    return Came::Nothing;
                }
                self.attempt.append_job_output();
                if let Some(e) = system.unseen(&id, seen, &self.attempt) {
                    return Came::Over(Err(e));
                }
                match seen {
                    Seen::Known(known) => came(&id, known),
                    _ => Came::Over(Err(Error::JobForgotten(id))),
                }
            }
        }
    }
}

fn came(id: &str, known: &Known) -> Came {
    match known.over(id) {
        Ok(Over::End(end)) => Came::Over(Ok(end)),
        Ok(Over::Again(why)) => Came::Again(why),
        Err(e) => Came::Over(Err(e)),
    }
}

/// The numbers of jobs whose runner was killed while it submitted them.
fn find_ids(system: &dyn System, place: usize, jobs: &mut BTreeMap<Ticket, Job>) -> Result<(), String> {
    let nameless = |job: &&mut Job| job.system == place && job.submission.id.is_none();
    let mut names: BTreeMap<Option<String>, BTreeSet<String>> = BTreeMap::new();
    for job in jobs.values_mut().filter(nameless) {
        let Submission { cluster, name, .. } = &job.submission;
        names.entry(cluster.clone()).or_default().insert(name.clone());
    }
    for (cluster, names) in names {
        let found = system.find(&names, cluster.as_deref())?;
        for job in jobs.values_mut().filter(nameless) {
            let Some(id) = found.get(&(job.submission.name.clone(), job.submission.index)) else { continue };
            job.submission.id = Some(id.clone());
            // At worst the next runner asks again.
            let _ = job.submission.write(&job.attempt.folder);
        }
    }
    Ok(())
}

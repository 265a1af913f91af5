//! The one place where all jobs of a run are waited for: one thread, one lock and one question to Slurm for all of them,
//! however many there are.

use super::ask::{self, Known, Seen, Verdict};
use super::job::Ended;
use super::queue::Queue;
use super::submission::Submission;
use super::waiting::{Arrival, Notice, Owner, Stand, Ticket};
use super::{Over, over, unseen};
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
/// The same of those that Slurm says are over.
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
    asked: Option<Instant>,
    /// What the last question came to when it failed.
    trouble: Option<String>,
}

struct Job {
    task: Arc<Task>,
    attempt: Attempt,
    submission: Submission,
    seen: Seen,
    /// Since when Slurm says that it is over, and there is no exit code.
    silent: Option<Instant>,
    shown: String,
    /// How urgently it was asked to stop.
    told: u8,
    /// An earlier runner submitted it, and Slurm was not asked yet whether it is still there.
    left: bool,
    runs: bool,
}

impl<'a> Desk<'a> {
    /// An empty one.
    pub fn new(session: &'a Session, stop: &'a Stop, owner: &'a Owner) -> Self {
        let queue = Queue::new(session, owner);
        let (jobs, busy) = (BTreeMap::new(), BTreeMap::new());
        Self { session, stop, queue, jobs, busy, turns: [0; 2], asked: None, trouble: None }
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
                let submission = Submission::read(&attempt.folder).unwrap_or_default();
                let job = Job { left: true, ..Job::new(task, attempt, submission) };
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
        let inside = self.jobs.len();
        for (ticket, task, attempt, answer) in self.queue.submit(inside, tell) {
            match answer {
                Ok(submission) => {
                    let id = submission.id.clone().unwrap_or_default();
                    tell(ticket, Notice::Say(format!("submitted as job {id}")));
                    self.jobs.insert(ticket, Job::new(task, attempt, submission));
                }
                Err(text) => tell(ticket, Notice::over(attempt, Err(Error::Slurm(text)))),
            }
        }
        self.hand_on(level);
        self.ask(tell);
        self.look(tell);
        self.look_at_busy(tell);
    }

    /// Hands the wish to stop on to all jobs that do not know of it.
    fn hand_on(&mut self, level: u8) {
        let untold = |job: &&mut Job| job.told < level && job.submission.id.is_some();
        let mut ids = Vec::new();
        for job in self.jobs.values_mut().filter(untold) {
            job.told = level;
            ids.extend(job.submission.id.clone());
        }
        if !ids.is_empty() {
            ask::cancel(&ids, level);
            self.asked = None;
        }
    }

    /// Asks about all jobs together, when it is time: once in every interval, and once more for those that are new.
    fn ask(&mut self, tell: &mut dyn FnMut(Ticket, Notice)) {
        let Some(interval) = self.jobs.values().map(|job| self.interval(&job.task)).min() else { return };
        let fresh = self.jobs.values().any(|job| job.seen == Seen::Unasked);
        let pause =
            if fresh { (interval / 2).min(Duration::from_secs(1).max(interval / 4)) } else { interval };
        if self.asked.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        let answer = self.find_ids().and_then(|()| {
            let ids: Vec<String> = self.jobs.values().filter_map(|job| job.submission.id.clone()).collect();
            if ids.is_empty() { Ok(BTreeMap::new()) } else { ask::states(&ids) }
        });
        self.asked = Some(Instant::now());
        let trouble = match answer {
            Ok(mut known) => {
                for job in self.jobs.values_mut() {
                    let found = job.submission.id.as_ref().and_then(|id| known.remove(id));
                    job.seen = found.map_or(Seen::Unknown, Seen::Known);
                }
                None
            }
            Err(text) => Some(text),
        };
        if trouble != self.trouble
            && let Some(ticket) = self.jobs.keys().next()
        {
            let text =
                trouble.clone().map_or("squeue answers again".into(), |text| format!("{text}; asking on"));
            tell(*ticket, Notice::Say(text));
        }
        self.trouble = trouble;
    }

    fn interval(&self, task: &Task) -> Duration {
        self.session.graph.steps[task.step].slurm.interval
    }

    /// The numbers of jobs whose runner was killed while it submitted them.
    fn find_ids(&mut self) -> Result<(), String> {
        let nameless = self.jobs.values().filter(|job| job.submission.id.is_none());
        let mut names: BTreeMap<Option<String>, BTreeSet<String>> = BTreeMap::new();
        for job in nameless {
            let Submission { cluster, name, .. } = &job.submission;
            names.entry(cluster.clone()).or_default().insert(name.clone());
        }
        for (cluster, names) in names {
            let found = ask::named(&names, cluster.as_deref())?;
            for job in self.jobs.values_mut().filter(|job| job.submission.id.is_none()) {
                let Some(id) = found.get(&(job.submission.name.clone(), job.submission.index)) else {
                    continue;
                };
                job.submission.id = Some(id.clone());
                // At worst the next runner asks again.
                let _ = job.submission.write(&job.attempt.folder);
            }
        }
        Ok(())
    }

    /// Looks at what jobs wrote, at those that may be over first.
    fn look(&mut self, tell: &mut dyn FnMut(Ticket, Notice)) {
        let closed = |job: &Job| match &job.seen {
            Seen::Known(known) => known.verdict() != Verdict::Open,
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
            match job.verdict(stopping, self.trouble.as_deref(), &mut |notice| tell(ticket, notice)) {
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
    fn new(task: Arc<Task>, attempt: Attempt, submission: Submission) -> Self {
        let (seen, shown) = (Seen::Unasked, String::new());
        Self { task, attempt, submission, seen, silent: None, shown, told: 0, left: false, runs: false }
    }

    /// What it wrote, and what Slurm says of it.
    fn verdict(&mut self, stopping: bool, trouble: Option<&str>, tell: &mut dyn FnMut(Notice)) -> Came {
        let id = self.submission.id.clone().unwrap_or_default();
        if let Some(ended) = Ended::read(&self.attempt.folder) {
            match ended.end() {
                end if !ended.told => return Came::Over(Ok(end)),
                End::Success(seconds) => {
                    // Whoever wanted it to stop came too late; it is not to be started again.
                    ask::cancel(&[id], 2);
                    return Came::Over(Ok(End::Success(seconds)));
                }
                _ if stopping => return Came::Over(Ok(End::Stopped)),
                end => match &self.seen {
                    // Of one that an earlier runner told to stop, the state is there, and nothing else.
                    Seen::Known(known) if self.left && known.verdict() != Verdict::Open => return Came::Lost,
                    Seen::Unknown if self.left => return Came::Lost,
                    // Who told it to stop, and whether it will be started again, is what Slurm knows.
                    Seen::Known(known) => match known.verdict() {
                        Verdict::Open => {}
                        Verdict::Ended => return Came::Over(Ok(end)),
                        verdict => return came(&id, known, verdict),
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
            Seen::Known(known) if known.verdict() == Verdict::Open => {
                (self.silent, self.left) = (None, false);
                let line = known.line(&id);
                if line != self.shown {
                    tell(Notice::Say(line.clone()));
                    self.shown = line;
                }
                if known.is_running() != self.runs {
                    self.runs = known.is_running();
                    tell(Notice::Runs(self.runs));
                }
                Came::Nothing
            }
            _ if stopping => Came::Over(Ok(End::Stopped)),
            _ if self.left => Came::Lost,
            seen => {
                if self.silent.get_or_insert_with(Instant::now).elapsed() <= LAG {
                    return Came::Nothing;
                }
                self.attempt.append_slurm_output();
                if let Some(e) = unseen(&id, seen, &self.attempt) {
                    return Came::Over(Err(e));
                }
                match seen {
                    Seen::Known(known) => came(&id, known, known.verdict()),
                    _ => Came::Over(Err(Error::JobForgotten(id))),
                }
            }
        }
    }
}

fn came(id: &str, known: &Known, verdict: Verdict) -> Came {
    match over(id, known, verdict) {
        Ok(Over::End(end)) => Came::Over(Ok(end)),
        Ok(Over::Again(why)) => Came::Again(why),
        Err(e) => Came::Over(Err(e)),
    }
}

//! Attempts that wait to be submitted, and how many go at a time: as arrays that the cluster takes, no more than the study
//! allows, and fewer once Slurm has refused some.

use super::ask;
use super::submission::Submission;
use super::submit::{Batch, Refusal, sbatch};
use super::waiting::{Notice, Owner, Ticket};
use crate::engine::attempt::Attempt;
use crate::session::{Session, Task};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Attempts of one step that come within this time of each other are submitted together.
const GATHER: Duration = Duration::from_millis(100);
/// How long they are gathered at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a refusal, the least time until the next try.
const REST: Duration = Duration::from_secs(2);

/// What became of an attempt that was to be submitted.
pub type Answer = (Ticket, Arc<Task>, Attempt, Result<Submission, String>);

pub struct Queue<'a> {
    session: &'a Session,
    pub owner: &'a Owner,
    waiting: VecDeque<Entry>,
    /// When the first and the last of those that wait came.
    came: Option<(Instant, Instant)>,
    /// How many indices an array may have; asked when it is first needed.
    array: Option<u32>,
    /// No more than so many at a time, since Slurm refused more.
    at_most: usize,
    /// No try before this.
    rest: Option<Instant>,
    /// It was told that Slurm takes no more now.
    told: bool,
}

struct Entry {
    ticket: Ticket,
    task: Arc<Task>,
    attempt: Attempt,
}

impl<'a> Queue<'a> {
    pub fn new(session: &'a Session, owner: &'a Owner) -> Self {
        let waiting = VecDeque::new();
        Self {
            session,
            owner,
            waiting,
            came: None,
            array: None,
            at_most: usize::MAX,
            rest: None,
            told: false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn push(&mut self, ticket: Ticket, task: Arc<Task>, attempt: Attempt) {
        let now = Instant::now();
        self.came = Some((self.came.map_or(now, |(first, _)| first), now));
        self.waiting.push_back(Entry { ticket, task, attempt });
    }

    /// Nobody is to be submitted any more; who waited.
    pub fn clear(&mut self) -> Vec<Ticket> {
        self.came = None;
        self.waiting.drain(..).map(|entry| entry.ticket).collect()
    }

    /// Submits one batch, when it is time. `inside` jobs are with Slurm already.
    pub fn submit(&mut self, inside: usize, tell: &mut dyn FnMut(Ticket, Notice)) -> Vec<Answer> {
        let Some((first, last)) = self.came else { return Vec::new() };
        let gathering = last.elapsed() < GATHER && first.elapsed() < PATIENCE;
        if gathering || self.rest.is_some_and(|until| Instant::now() < until) {
            return Vec::new();
        }
        let batch = self.next(inside);
        if batch.is_empty() {
            return Vec::new();
        }
        let step = batch[0].task.step;
        let width = self.array.unwrap_or(u32::MAX);
        let folders: Vec<_> =
            batch.iter().map(|e| (number(&e.task, width), e.attempt.folder.as_path())).collect();
        // Shards are tasks of their own number; what else comes together is counted.
        let numbered = folders.iter().all(|(number, _)| number.is_some());
        let folders = folders.into_iter().enumerate().map(|(i, (number, folder))| match number {
            Some(number) if numbered => (number, folder),
            _ => (i as u32, folder),
        });
        let batched = Batch { session: self.session, step, owner: self.owner, folders: folders.collect() };
        let answer = sbatch(&batched);
        match answer {
            Ok((submissions, warnings)) => {
                warnings.into_iter().for_each(|line| tell(batch[0].ticket, Notice::Say(line)));
                (self.rest, self.told) = (None, false);
                // What was refused once may be allowed again.
                self.at_most = self.at_most.saturating_mul(2);
                let answers = batch.into_iter().zip(submissions);
                answers.map(|(e, submission)| (e.ticket, e.task, e.attempt, Ok(submission))).collect()
            }
            Err(Refusal::Never(text)) => {
                batch.into_iter().map(|e| (e.ticket, e.task, e.attempt, Err(text.clone()))).collect()
            }
            // With nobody else there, it is this job itself that is too large.
            Err(Refusal::Later(text)) if batch.len() == 1 && inside == 0 && is_own(&text) => {
                batch.into_iter().map(|e| (e.ticket, e.task, e.attempt, Err(text.clone()))).collect()
            }
            Err(Refusal::Later(text)) => {
                self.at_most = (batch.len() / 2).max(1);
                let pause = self.session.graph.steps[step].slurm.interval.max(REST);
                // Fewer are tried at once where there were several; a single one waits.
                self.rest = (batch.len() == 1).then(|| Instant::now() + pause);
                if batch.len() == 1 && !std::mem::replace(&mut self.told, true) {
                    let text = format!("{text}; Slurm takes no more jobs now, waiting");
                    tell(batch[0].ticket, Notice::Say(text));
                }
                batch.into_iter().rev().for_each(|entry| self.waiting.push_front(entry));
                self.came.get_or_insert((first, last));
                Vec::new()
            }
        }
    }

    /// The next batch: attempts of one step that one array can hold.
    fn next(&mut self, inside: usize) -> Vec<Entry> {
        let Some(first) = self.waiting.front() else {
            self.came = None;
            return Vec::new();
        };
        let step = first.task.step;
        let width = *self.array.get_or_insert_with(ask::largest_array);
        let allowed = self.session.graph.steps[step].slurm.max_submitted.unwrap_or(usize::MAX);
        let room = allowed.saturating_sub(inside).min(self.at_most).min(width as usize);
        let block = |task: &Task| shard(task).map(|number| number / width);
        let of = block(&first.task);
        let (mut batch, mut rest) = (Vec::new(), VecDeque::new());
        for entry in self.waiting.drain(..) {
            let fits = entry.task.step == step && block(&entry.task) == of && batch.len() < room;
            if fits { batch.push(entry) } else { rest.push_back(entry) }
        }
        self.waiting = rest;
        if self.waiting.is_empty() {
            self.came = None;
        }
        batch
    }
}

/// Whether what a cluster refuses is not that there are too many jobs.
fn is_own(text: &str) -> bool {
    text.contains("violates") && !text.contains("MaxSubmit")
}

/// The number of a shard.
fn shard(task: &Task) -> Option<u32> {
    task.action.params.get(study::sharded::PARAMS[0])?.parse().ok().filter(|_| task.instance.is_some())
}

/// Its index in an array of `width`.
fn number(task: &Task, width: u32) -> Option<u32> {
    shard(task).map(|number| number % width)
}

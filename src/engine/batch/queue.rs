//! Attempts that wait to be submitted, and how many go at a time: as arrays that the cluster takes, no more than the study
//! allows, and fewer once Slurm has refused some.

use super::submission::{Of, Submission};
use super::system::{Batch, Refusal, interval, max_submitted};
use super::systems::Systems;
use super::waiting::{Notice, Owner, Ticket};
use crate::engine::attempt::Attempt;
use crate::engine::private::{Private, Words};
use crate::session::{Session, Task};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Attempts of one step that come within this time of each other are submitted together.
const GATHER: Duration = Duration::from_millis(100);
/// How long they are gathered at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a refusal, the least time until the next try.
const REST: Duration = Duration::from_secs(2);

/// Bytes of private words that one submission has room for.
const PRIVATE: usize = 32 * 1024;

/// What became of an attempt that was to be submitted.
pub type Answer = (Ticket, Arc<Task>, Attempt, Result<Submission, String>);

pub struct Queue<'a> {
    session: &'a Session,
    pub owner: &'a Owner,
    waiting: VecDeque<Entry>,
    /// When the first and the last of those that wait came.
    came: Option<(Instant, Instant)>,
    /// No more than so many at a time, since a system refused more.
    at_most: usize,
    /// No try before this.
    rest: Option<Instant>,
    /// It was told that no more are taken now.
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
        Self { session, owner, waiting, came: None, at_most: usize::MAX, rest: None, told: false }
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

    /// Submits one batch, when it is time. `inside` has how many jobs are with a system already.
    pub fn submit(
        &mut self,
        systems: &mut Systems,
        inside: impl Fn(usize) -> usize,
        tell: &mut dyn FnMut(Ticket, Notice),
    ) -> Vec<Answer> {
        let Some((first, last)) = self.came else { return Vec::new() };
        let gathering = last.elapsed() < GATHER && first.elapsed() < PATIENCE;
        if gathering || self.rest.is_some_and(|until| Instant::now() < until) {
            return Vec::new();
        }
        let Some(front) = self.waiting.front() else {
            self.came = None;
            return Vec::new();
        };
        let step = front.task.step;
        let place = systems.place(&Of::step(&self.session.graph.steps[step]));
        let several = self.session.graph.steps[step].processes.is_some_and(|processes| processes.nodes > 1);
        let any_numbers = systems.at(place).any_numbers();
        // What an array of jobs on several nodes is, each system has its own mind of; Slurm's are as others.
        let width = if several && !any_numbers { 1 } else { systems.array(place) };
        let inside = inside(place);
        let (batch, private) = self.next(inside, width, any_numbers);
        let Some(first_log) = batch.first().and_then(|entry| entry.attempt.log.parent().map(PathBuf::from))
        else {
            return Vec::new();
        };
        let folders: Vec<_> =
            batch.iter().map(|e| (number(&e.task, width), e.attempt.folder.as_path())).collect();
        // Shards are tasks of their own number; what else comes together is counted.
        let numbered = any_numbers && folders.iter().all(|(number, _)| number.is_some());
        let folders = folders.into_iter().enumerate().map(|(i, (number, folder))| match number {
            Some(number) if numbered => (number, folder),
            _ => (i as u32, folder),
        });
        let (session, owner, folders, logs) = (self.session, self.owner, folders.collect(), &*first_log);
        let batched = Batch { session, step, owner, folders, logs, private };
        match systems.at(place).submit(&batched) {
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
                let pause = interval(&self.session.graph.steps[step]).max(REST);
                // Fewer are tried at once where there were several; a single one waits.
                self.rest = (batch.len() == 1).then(|| Instant::now() + pause);
                if batch.len() == 1 && !std::mem::replace(&mut self.told, true) {
                    let text = format!("{text}; no more jobs are taken now, waiting");
                    tell(batch[0].ticket, Notice::Say(text));
                }
                batch.into_iter().rev().for_each(|entry| self.waiting.push_front(entry));
                self.came.get_or_insert((first, last));
                Vec::new()
            }
        }
    }

    /// The next batch: attempts of one step that one array can hold, and what their command lines keep to themselves.
    fn next(&mut self, inside: usize, width: u32, any_numbers: bool) -> (Vec<Entry>, Private) {
        let (mut batch, mut rest, mut private) = (Vec::new(), VecDeque::new(), Private::default());
        let Some(first) = self.waiting.front() else { return (batch, private) };
        let step = first.task.step;
        let allowed = max_submitted(&self.session.graph.steps[step]);
        let room = allowed.saturating_sub(inside).min(self.at_most).min(width as usize);
        let block = |task: &Task| shard(task).filter(|_| any_numbers).map(|number| number / width);
        let of = block(&first.task);
        for entry in self.waiting.drain(..) {
            let fits = entry.task.step == step && block(&entry.task) == of && batch.len() < room;
            // They go with the job's environment, which holds only so much.
            if fits && private.size() < PRIVATE {
                private.add(Words::of(&entry.attempt.words).1);
                batch.push(entry);
            } else {
                rest.push_back(entry);
            }
        }
        self.waiting = rest;
        if self.waiting.is_empty() {
            self.came = None;
        }
        // Tasks of an array are in the order of their shards.
        batch.sort_by_key(|entry| shard(&entry.task));
        (batch, private)
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

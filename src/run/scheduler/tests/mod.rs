//! The scheduler alone: no process, no file, no clock.

mod cache;
mod generated;
mod order;
mod remade;
mod trouble;

use super::{Attempted, Capacity, Effect, Event, Found, Request, Scheduler, Settings, Sought};
use super::{StepEnd, StepId, StepPlan, TaskId, Why};
use crate::cache::failure::{Change, Failure, PartKind};
use store::Key;

/// What the store of a [`Desk`] says of a task.
#[derive(Clone, Copy, PartialEq)]
enum There {
    Here,
    Missing,
    /// Missing, and costly.
    Costly,
}
use There::{Costly, Here, Missing};

/// A scheduler with a store that answers at once; all else is answered by the test.
struct Desk {
    scheduler: Scheduler,
    /// Of each step, its tasks: what they do, and whether it is there.
    store: Vec<Vec<(u8, There)>>,
    /// Steps whose contents were dropped, by the step that reads them.
    dropped: Vec<Vec<usize>>,
    /// Whether each look that was made asked for whole contents.
    looks: Vec<(usize, bool)>,
}

impl Desk {
    fn new(plans: Vec<StepPlan>, settings: Settings, store: &[&[(u8, There)]]) -> Self {
        let dropped = vec![Vec::new(); plans.len()];
        let store = store.iter().map(|tasks| tasks.to_vec()).collect();
        Self { scheduler: Scheduler::new(plans, settings), store, dropped, looks: Vec::new() }
    }

    fn found(&self, step: usize) -> Found {
        let sought = |(key, there): &(u8, There)| Sought {
            key: key_of(*key),
            here: *there == Here,
            ask: *there == Costly,
        };
        let dropped = self.dropped[step].iter().map(|d| StepId(*d)).collect();
        Found::Tasks { tasks: self.store[step].iter().map(sought).collect(), dropped }
    }

    /// Tells the scheduler something and gives what is to be done, without what the store has to do.
    fn tell(&mut self, event: Event) -> Vec<Effect> {
        let mut left = Vec::new();
        let mut open = self.scheduler.on(event);
        open.reverse();
        while let Some(effect) = open.pop() {
            let answer = match effect {
                Effect::Look { step, whole } => {
                    self.looks.push((step.0, whole));
                    Event::Looked { step, found: self.found(step.0) }
                }
                Effect::Gather { step } => Event::Gathered { step, restored: false },
                other => {
                    left.push(other);
                    continue;
                }
            };
            // What follows from an answer comes before what was said after the question.
            open.extend(self.scheduler.on(answer).into_iter().rev());
        }
        left
    }

    fn begin(&mut self) -> Vec<Effect> {
        self.tell(Event::Begin)
    }

    fn made(&mut self, task: usize) -> Vec<Effect> {
        self.tell(Event::Ended { task: TaskId(task), end: Attempted::Made })
    }

    fn fails(&mut self, task: usize, failure: Failure) -> Vec<Effect> {
        self.tell(Event::Ended { task: TaskId(task), end: Attempted::Failed(failure) })
    }

    fn fetched(&mut self, task: usize, hit: bool) -> Vec<Effect> {
        self.tell(Event::Fetched { task: TaskId(task), hit })
    }

    fn sent(&mut self, task: usize) -> Vec<Effect> {
        self.tell(Event::Sent { task: TaskId(task) })
    }
}

fn key_of(byte: u8) -> Key {
    Key::new(blake3::Hash::from_bytes([byte; 32]))
}

/// Four cores, two GPUs, any number of tasks.
fn settings() -> Settings {
    let capacity = Capacity { jobs: usize::MAX, cpus: 4, memory: 100, gpus: 2, gpus_from_top: false };
    Settings { capacity, keep_going: false, cache: false, transfers: 4 }
}

fn one_at_a_time() -> Settings {
    let mut settings = settings();
    settings.capacity.jobs = 1;
    settings
}

fn plan(needs: &[usize]) -> StepPlan {
    let request = Request { cpus: 1, memory: 0, gpus: 0 };
    let needs = needs.iter().map(|need| StepId(*need)).collect();
    StepPlan { wanted: true, needs, request, forced: false, retries: 0 }
}

fn start(task: usize) -> Effect {
    Effect::Start { task: TaskId(task), gpus: Vec::new(), attempt: 1, after: None }
}

fn share(task: usize, from: usize) -> Effect {
    Effect::Share { task: TaskId(task), from: TaskId(from) }
}

fn fetch(task: usize) -> Effect {
    Effect::Fetch { task: TaskId(task) }
}

fn send(task: usize) -> Effect {
    Effect::Send { task: TaskId(task) }
}

fn failed(task: usize, failure: Failure) -> Effect {
    Effect::Failed { task: TaskId(task), failure }
}

fn ended(step: usize, end: StepEnd) -> Effect {
    Effect::Ended { step: StepId(step), end }
}

fn ran(step: usize) -> Effect {
    ended(step, StepEnd::Ran { ran: 1, all: 1 })
}

fn skipped(step: usize, why: Why) -> Effect {
    ended(step, StepEnd::Skipped(why))
}

const EXIT: Failure = Failure::Exit { code: 1 };

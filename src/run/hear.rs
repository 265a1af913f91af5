//! What the driver hears from its threads, and sees in the files of what runs.

use crate::cache::events::{Direction, RunEvent, TaskEnd};
use crate::cache::failure::Failure;
use crate::cache::results::ActionResult;
use crate::error::{Error, Result};
use crate::run::driver::Driver;
use crate::run::job::{Unmade, WorkerEvent};
use crate::run::scheduler::{Attempted, Event, TaskId};
use crate::run::tail::Tail;
use crate::run::threads::Message;

/// This many running tasks are looked at in one tick; the others in those that follow.
const AT_ONCE: usize = 64;

impl Driver<'_> {
    pub(super) fn hear(&mut self, message: Message) {
        match message {
            Message::Tells(task, direction, event) => self.told(task, direction, event),
            Message::Ended(task, made) => self.attempted(task, made),
            Message::Moved(task, direction, moved) => self.moved(task, direction, moved),
        }
    }

    fn told(&mut self, task: TaskId, direction: Option<Direction>, event: WorkerEvent) {
        let label = self.label(task);
        match (event, direction) {
            (WorkerEvent::Follow { events, log, places }, _) => {
                // Of a job that began again, what was shown is not shown again.
                self.running.entry(task).or_insert_with(|| Tail::new(events, log, places));
            }
            (WorkerEvent::Runs(true), _) => self.stream.emit(RunEvent::TaskRuns { task: label }),
            (WorkerEvent::Runs(false), _) => self.stream.emit(RunEvent::TaskQueued { task: label }),
            (WorkerEvent::Say(text), _) => self.stream.say(&label, text),
            (WorkerEvent::Attempted(report), _) => {
                // What it reported last comes first.
                self.follow(task);
                self.stream.emit(RunEvent::AttemptEnded { report: *report });
            }
            (WorkerEvent::Moved(done, total), Some(direction)) => {
                self.stream.emit(RunEvent::TransferProgress { task: label, direction, done, total });
            }
            (WorkerEvent::Moved(..), None) => {}
        }
    }

    /// An attempt at a task has ended.
    fn attempted(&mut self, task: TaskId, made: Result<ActionResult, Unmade>) {
        self.follow(task);
        self.running.remove(&task);
        let label = self.label(task);
        let end = match made {
            Ok(outcome) => {
                let ours = outcome.run == self.run;
                let end = match ours {
                    true => TaskEnd::Made {
                        seconds: outcome.seconds,
                        earlier: outcome.earlier.as_ref().map(|earlier| earlier.seconds),
                    },
                    false => TaskEnd::Elsewhere,
                };
                self.stream.emit(RunEvent::TaskEnded { task: label, end });
                self.made(task, outcome);
                if ours { Attempted::Made } else { Attempted::Elsewhere }
            }
            Err(Unmade::Stale(parts)) => Attempted::Stale(parts),
            Err(Unmade::Failed(mut failed)) => {
                if self.stop.asked() && failed.failure.may_pass() {
                    failed.failure = Failure::Stopped;
                }
                if failed.failure == Failure::Stopped {
                    let end = TaskEnd::Failed((*failed).clone());
                    self.stream.emit(RunEvent::TaskEnded { task: label, end });
                }
                let state = &mut self.tasks[task.0];
                (state.full, state.rank, state.log) = (failed.full, failed.rank, failed.log);
                Attempted::Failed(failed.failure)
            }
        };
        self.tell(Event::Ended { task, end });
    }

    /// A transfer has ended.
    fn moved(&mut self, task: TaskId, direction: Direction, moved: Result<Option<ActionResult>>) {
        let outcome = moved.unwrap_or_else(|e| {
            match (&e, &self.session.remote) {
                (Error::Cache(e), Some(remote)) => {
                    let warning = remote.failed(e, direction == Direction::Send);
                    warning.into_iter().for_each(|text| self.stream.emit(RunEvent::Warning { text }));
                }
                (Error::Interrupted, _) => {}
                _ => self.fail(e),
            }
            None
        });
        let bytes = outcome.as_ref().map(|outcome| outcome.outputs.values().map(|o| o.bytes).sum());
        self.stream.emit(RunEvent::TransferEnded { task: self.label(task), direction, bytes });
        if direction == Direction::Send {
            return self.tell(Event::Sent { task });
        }
        let hit = outcome.is_some();
        if let Some(outcome) = outcome {
            let i = self.tasks[task.0].task.step;
            self.steps[i].reason = "from the cache".into();
            self.made(task, outcome);
        }
        self.tell(Event::Fetched { task, hit });
    }

    /// Looks at what running tasks report, each in its turn.
    pub(super) fn tick(&mut self) {
        let after = self.running.range(self.turn..).chain(self.running.range(..self.turn));
        let tasks: Vec<TaskId> = after.map(|(task, _)| *task).take(AT_ONCE).collect();
        self.turn = tasks.last().map_or(TaskId(0), |last| TaskId(last.0 + 1));
        tasks.into_iter().for_each(|task| self.follow(task));
        self.stream.screen().tick();
    }

    /// Passes on what is new of a running task.
    fn follow(&mut self, task: TaskId) {
        let Some(tail) = self.running.get_mut(&task) else { return };
        let events = tail.read(&self.tasks[task.0].task.label);
        events.into_iter().for_each(|event| self.stream.emit(event));
    }
}

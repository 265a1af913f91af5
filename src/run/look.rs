//! What the driver does with the store: looking up what is there of a step, and making its outputs of what its tasks gave.

use crate::action::Action;
use crate::cache::events::RunEvent;
use crate::cache::failure::{Failure, TaskFailure};
use crate::cache::results::{self, ActionResult};
use crate::error::Result;
use crate::run::driver::{Driver, TaskState};
use crate::run::out::publish;
use crate::run::scheduler::{Found, Sought, StepEnd, StepId, TaskId};
use crate::screen::show::ANEW;
use crate::session::Task;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Driver<'_> {
    /// What there is of a step, with the contents of its outputs that may be dropped when it is to be `whole`.
    pub(super) fn look(&mut self, step: StepId, whole: bool) -> Result<Found> {
        let i = step.0;
        if let Some(known) = self.session.stand_in(i)? {
            self.known[i] = Some(known);
            return Ok(Found::Replaced);
        }
        let tasks = match self.session.tasks(i, &self.known) {
            // What was there when the run began is not now; that is this step's failure, not everybody's.
            Err(e) if self.steps[i].anew => {
                let failure = Failure::Error { text: e.to_string() };
                let failed = TaskFailure::from(failure);
                let id = self.session.graph.steps[i].id.clone();
                self.failed(i, id, failed);
                return Ok(Found::Failed);
            }
            tasks => tasks?,
        };
        let Some(tasks) = tasks else { return Ok(Found::NotYet) };
        self.tell_of_program(i, &tasks);
        let first = self.tasks.len();
        self.steps[i].tasks = first..first + tasks.len();
        let mut dropped = BTreeSet::new();
        let mut sought = Vec::with_capacity(tasks.len());
        for task in tasks {
            let seen = results::newest(&self.session.store, &task.key);
            let outcome = self.find(&task, whole)?;
            if outcome.is_none() {
                dropped.extend(self.session.dropped(&task)?);
            }
            let costly = if outcome.is_none() { self.costly(&task) } else { None };
            sought.push(Sought { key: task.key, here: outcome.is_some(), ask: costly.is_some() });
            let task = Arc::new(task);
            self.tasks.push(TaskState {
                task,
                outcome: None,
                seen,
                costly,
                full: None,
                rank: None,
                log: None,
            });
            if let Some(outcome) = outcome {
                self.complete(TaskId(self.tasks.len() - 1), outcome)?;
            }
        }
        let (stage, all) = (self.session.graph.steps[i].id.clone(), sought.len());
        let cached = sought.iter().filter(|task| task.here).count();
        if cached < all {
            self.stream.emit(RunEvent::StageStarted { stage, tasks: all, cached });
        }
        Ok(Found::Tasks { tasks: sought, dropped: dropped.into_iter().map(StepId).collect() })
    }

    /// The result of a task that counts.
    fn find(&self, task: &Task, whole: bool) -> Result<Option<ActionResult>> {
        if self.session.forced.contains(&task.step) {
            return Ok(None);
        }
        match whole {
            true => Ok(results::lookup(&self.session.store, &task.key)?.map(|found| found.of(&task.action))),
            false => Ok(self.session.lookup(task)?),
        }
    }

    /// How long a task took last time, when that was long and only its program is different now.
    fn costly(&self, task: &Task) -> Option<f64> {
        if self.options.yes || self.session.forced.contains(&task.step) {
            return None;
        }
        let last = results::last(&self.session.store, &task.label)?;
        let same = Action { program: last.action.program, ..(*task.action).clone() } == *last.action;
        let only_program = same && task.action.program != last.action.program;
        let long = last.seconds > self.session.graph.ask_above.as_secs_f64();
        (only_program && long).then_some(last.seconds)
    }

    /// Says when the program of a step is not the one that the run began with.
    fn tell_of_program(&mut self, i: usize, tasks: &[Task]) {
        let (Some(task), Some(found)) = (tasks.first(), &self.session.programs[i]) else { return };
        if task.action.program != found.digest && !self.steps[i].anew {
            let name = task.action.template.first().map_or("", String::as_str);
            let text = format!("`{name}` {}", ANEW);
            self.stream.say(&self.session.graph.steps[i].id, text);
        }
    }

    /// A task has got its result in this run.
    pub(super) fn made(&mut self, task: TaskId, outcome: ActionResult) {
        let i = self.tasks[task.0].task.step;
        self.steps[i].begun = true;
        self.complete(task, outcome).unwrap_or_else(|e| self.fail(e));
    }

    fn complete(&mut self, task: TaskId, outcome: ActionResult) -> Result<()> {
        self.session.note_last(&self.tasks[task.0].task, &outcome)?;
        self.tasks[task.0].outcome = Some(outcome);
        Ok(())
    }

    /// Makes the outputs of a step and shows them in `out/`. Returns whether something else stood there.
    pub(super) fn gather(&mut self, step: StepId) -> Result<bool> {
        let known = self.session.gather(&self.session.graph.steps[step.0], &self.done(step.0))?;
        let published = publish(self.session, step.0, &known)?;
        for line in published.aside {
            self.stream.say(&self.session.graph.steps[step.0].id, line);
        }
        self.known[step.0] = Some(known);
        Ok(published.changed)
    }

    /// Another run of the study may have put outputs of its own into `out/` meanwhile; those of one run belong together.
    pub(super) fn show_again(&mut self) -> Result<()> {
        // A run that made nothing is over before anybody comes.
        if !self.steps.iter().any(|step| step.begun) {
            return Ok(());
        }
        let mut others = Vec::new();
        for i in 0..self.steps.len() {
            let ours = self.steps[i].end.is_some_and(|end| end.is_good() && end != StepEnd::Replaced);
            let Some(known) = self.known[i].as_ref().filter(|_| ours) else { continue };
            let published = publish(self.session, i, known)?;
            for line in published.aside {
                self.stream.say(&self.session.graph.steps[i].id, line);
            }
            if published.replaced {
                others.push(self.session.graph.steps[i].id.clone());
            }
        }
        if !others.is_empty() {
            let text = format!(
                "another run of this study had put its outputs of {} into out/ meanwhile; they are those of this run now",
                others.join(", ")
            );
            self.stream.emit(RunEvent::Warning { text });
        }
        Ok(())
    }

    /// The tasks of a step that have results, by name.
    pub(super) fn done(&self, i: usize) -> Vec<(&Task, &ActionResult)> {
        let tasks = &self.tasks[self.steps[i].tasks.clone()];
        let mut done: Vec<(&Task, &ActionResult)> =
            tasks.iter().filter_map(|task| Some((&*task.task, task.outcome.as_ref()?))).collect();
        done.sort_by(|a, b| a.0.label.cmp(&b.0.label));
        done
    }
}

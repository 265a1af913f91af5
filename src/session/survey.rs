//! What is there of each wanted step, without running anything.

use crate::cache::results::ActionResult;
use crate::session::error::{Error, Result};
use crate::session::{Session, StepOutputs, Task};

/// What is there of a step.
#[derive(Default)]
pub struct Surveyed {
    /// Its tasks and their results; `None` while a step before it, or its program, is not there.
    pub tasks: Option<Vec<(Task, Option<ActionResult>)>>,
    /// Its outputs, when all its tasks have results.
    pub known: Option<StepOutputs>,
}

/// Looks at every wanted step in order. `find` gives the result of a task, from wherever it may.
pub fn survey<E: From<Error>>(
    session: &Session,
    mut find: impl FnMut(&Task) -> Result<Option<ActionResult>, E>,
) -> Result<Vec<Surveyed>, E> {
    let steps = &session.graph.steps;
    let mut known: Vec<Option<StepOutputs>> = vec![None; steps.len()];
    let mut all: Vec<Surveyed> = Vec::with_capacity(steps.len());
    for (i, step) in steps.iter().enumerate() {
        let mut found = Surveyed::default();
        if session.wanted[i] {
            known[i] = session.stand_in(i)?;
            if known[i].is_none()
                && let Some(tasks) = session.tasks(i, &known)?
            {
                let tasks = tasks.into_iter().map(|task| {
                    let outcome = find(&task)?;
                    Ok((task, outcome))
                });
                let tasks = tasks.collect::<Result<Vec<_>, E>>()?;
                let done: Option<Vec<_>> =
                    tasks.iter().map(|(task, outcome)| Some((task, outcome.as_ref()?))).collect();
                known[i] = done.map(|done| session.gather(step, &done)).transpose()?;
                found.tasks = Some(tasks);
            }
        }
        all.push(found);
    }
    for (found, known) in all.iter_mut().zip(known) {
        found.known = known;
    }
    Ok(all)
}

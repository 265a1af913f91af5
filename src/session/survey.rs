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

/// Looks at every wanted step. `find` gives the result of a task.
pub fn survey<E: From<Error>>(
    session: &Session,
    mut find: impl FnMut(&Task) -> Result<Option<ActionResult>, E>,
) -> Result<Vec<Surveyed>, E> {
    survey_together(session, |tasks| tasks.iter().map(&mut find).collect())
}

/// The same, with a `find` that is given the tasks of all steps that do not wait for each other, and gives the result of each.
pub fn survey_together<E: From<Error>>(
    session: &Session,
    mut find: impl FnMut(&[Task]) -> Result<Vec<Option<ActionResult>>, E>,
) -> Result<Vec<Surveyed>, E> {
    let steps = &session.graph.steps;
    let mut all: Vec<Surveyed> = steps.iter().map(|_| Surveyed::default()).collect();
    let mut known: Vec<Option<StepOutputs>> = vec![None; steps.len()];
    for now in waves(session) {
        let (mut tasks, mut counts) = (Vec::new(), Vec::new());
        for &i in &now {
            known[i] = session.stand_in(i)?;
            let of_step = if known[i].is_none() { session.tasks(i, &known)? } else { None };
            counts.push(of_step.as_ref().map(Vec::len));
            tasks.extend(of_step.unwrap_or_default());
        }
        let outcomes = find(&tasks)?;
        let mut found = tasks.into_iter().zip(outcomes);
        for (i, count) in now.into_iter().zip(counts) {
            let Some(count) = count else { continue };
            let tasks: Vec<_> = found.by_ref().take(count).collect();
            let done: Option<Vec<_>> =
                tasks.iter().map(|(task, outcome)| Some((task, outcome.as_ref()?))).collect();
            known[i] = done.map(|done| session.gather(&steps[i], &done)).transpose()?;
            all[i].tasks = Some(tasks);
        }
    }
    for (found, known) in all.iter_mut().zip(known) {
        found.known = known;
    }
    Ok(all)
}

/// The wanted steps in waves: those of one wave wait for earlier waves alone. In a wave they stand in the graph's order.
pub fn waves(session: &Session) -> Vec<Vec<usize>> {
    let steps = &session.graph.steps;
    let (mut waves, mut place): (Vec<Vec<usize>>, _) = (Vec::new(), vec![None; steps.len()]);
    for i in (0..steps.len()).filter(|i| session.wanted[*i]) {
        // What a step needs stands before it in the graph.
        let wave = steps[i].needs().filter_map(|need| place[need]).max().map_or(0, |last: usize| last + 1);
        place[i] = Some(wave);
        if waves.len() <= wave {
            waves.push(Vec::new());
        }
        waves[wave].push(i);
    }
    waves
}

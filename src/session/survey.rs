//! What is there of each wanted step, without running anything.

use crate::cache::results::Outcome;
use crate::session::error::{Error, Result};
use crate::session::{Known, Session, Unit};

/// What is there of a step.
#[derive(Default)]
pub struct Surveyed {
    /// Its units and their results; `None` while a step before it, or its program, is not there.
    pub units: Option<Vec<(Unit, Option<Outcome>)>>,
    /// Its outputs, when all its units have results.
    pub known: Option<Known>,
}

/// Looks at every wanted step in order. `find` gives the result of a unit, from wherever it may.
pub fn survey<E: From<Error>>(
    session: &Session,
    mut find: impl FnMut(&Unit) -> Result<Option<Outcome>, E>,
) -> Result<Vec<Surveyed>, E> {
    let steps = &session.graph.steps;
    let mut known: Vec<Option<Known>> = vec![None; steps.len()];
    let mut all: Vec<Surveyed> = Vec::with_capacity(steps.len());
    for (i, step) in steps.iter().enumerate() {
        let mut found = Surveyed::default();
        if session.wanted[i] {
            known[i] = session.stand_in(i)?;
            if known[i].is_none()
                && let Some(units) = session.units(i, &known)?
            {
                let units = units.into_iter().map(|unit| {
                    let outcome = find(&unit)?;
                    Ok((unit, outcome))
                });
                let units = units.collect::<Result<Vec<_>, E>>()?;
                let done: Option<Vec<_>> =
                    units.iter().map(|(unit, outcome)| Some((unit.clone(), outcome.clone()?))).collect();
                known[i] = done.map(|done| session.gather(step, &done)).transpose()?;
                found.units = Some(units);
            }
        }
        all.push(found);
    }
    for (found, known) in all.iter_mut().zip(known) {
        found.known = known;
    }
    Ok(all)
}

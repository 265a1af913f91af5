//! `pipeline push`.

use super::transfers::{Console, Moved, list, remote};
use crate::cache::remote::side_by_side;
use crate::cache::results;
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::session::survey::survey;

/// Sends what the store has of the wanted stages to the shared cache.
pub fn push(global: &Global, stages: &[String]) -> Result<()> {
    let mut session = Session::open(&global.options(stages))?;
    let remote = remote(&mut session)?;
    let console = Console::new("sending")?;
    session.find_built_programs()?;
    let mut todo = Vec::new();
    for (i, found) in survey(&session, |task| session.lookup(task))?.into_iter().enumerate() {
        match found.tasks {
            Some(tasks) => todo
                .extend(tasks.into_iter().map(|(task, outcome)| (task.label.clone(), Some((task, outcome))))),
            None if session.wanted[i] && found.known.is_none() => {
                todo.push((session.graph.steps[i].id.clone(), None));
            }
            None => {}
        }
    }
    let moved = side_by_side(&todo, |(label, done)| {
        let Some((task, Some(outcome))) = done else { return Ok(Moved::new(label, "not-done", 0)) };
        if results::lookup(&session.store, &task.key)?.is_none() {
            return Ok(Moved::new(label, "dropped", 0));
        }
        if console.asked_to_stop() {
            return Err(Error::Interrupted);
        }
        let sent = remote.send(&session.store, &task.key, outcome, &console.about(label))?;
        let bytes = outcome.outputs.values().map(|o| o.bytes).sum();
        Ok(Moved::new(label, if sent { "sent" } else { "there" }, bytes))
    })?;
    list(global, &moved)
}

//! `pipeline push`.

use super::transfers::{Console, Moved, list, remote};
use crate::cache::results;
use crate::cli::Global;
use crate::error::Result;
use crate::session::Session;
use crate::session::survey::survey;

/// Sends what the store has of the wanted stages to the shared cache.
pub fn push(global: &Global, stages: &[String]) -> Result<()> {
    let mut session = Session::open(&global.options(stages))?;
    let remote = remote(&mut session)?;
    let console = Console::new("sending")?;
    session.find_built_programs()?;
    let mut moved = Vec::new();
    let all = survey(&session, |task| session.lookup(task))?;
    for (i, found) in all.into_iter().enumerate().filter(|(i, _)| session.wanted[*i]) {
        let Some(tasks) = found.tasks else {
            if found.known.is_none() {
                moved.push(Moved::new(&session.graph.steps[i].id, "not-done", 0));
            }
            continue;
        };
        for (task, outcome) in tasks {
            let Some(outcome) = outcome else {
                moved.push(Moved::new(&task.label, "not-done", 0));
                continue;
            };
            if results::lookup(&session.store, &task.key)?.is_none() {
                moved.push(Moved::new(&task.label, "dropped", 0));
                continue;
            }
            let sent = remote.send(&session.store, &task.key, &outcome, &console.about(&task.label))?;
            let bytes = outcome.outputs.values().map(|o| o.bytes).sum();
            moved.push(Moved::new(&task.label, if sent { "sent" } else { "there" }, bytes));
        }
    }
    list(global, &moved)
}

//! `pipeline push`.

use super::pull::{Console, Moved, list, remote};
use crate::cli::Global;
use crate::error::Result;
use crate::session::{Known, Session};

/// Sends what the store has of the wanted stages to the shared cache.
pub fn push(global: &Global, stages: &[String]) -> Result<()> {
    let mut session = Session::open(&global.options(stages))?;
    let remote = remote(&mut session)?;
    let console = Console::new("sending")?;
    let stale = crate::run::build::stale(&session)?.is_some();
    session.find_programs(stale)?;
    let mut known: Vec<Option<Known>> = vec![None; session.graph.steps.len()];
    let mut moved = Vec::new();
    for i in (0..known.len()).filter(|i| session.wanted[*i]) {
        let step = &session.graph.steps[i];
        let Some(units) = session.units(i, &known)? else {
            moved.push(Moved::new(&step.id, "not-done", 0));
            continue;
        };
        let mut done = Vec::new();
        let all = units.len();
        for unit in units {
            let Some(outcome) = session.store.lookup(&unit.key)? else {
                moved.push(Moved::new(&unit.label, "not-done", 0));
                continue;
            };
            let sent = remote.send(&session.store, &unit.key, &outcome, &console.about(&unit.label))?;
            let bytes = outcome.outputs.values().map(|o| o.bytes).sum();
            moved.push(Moved::new(&unit.label, if sent { "sent" } else { "there" }, bytes));
            done.push((unit, outcome));
        }
        if done.len() == all {
            known[i] = Some(session.gather(step, &done)?);
        }
    }
    session.store.stats.save();
    list(global, &moved)
}

//! `pipeline pull`.

use super::transfers::{Console, Moved, list, remote};
use crate::cache::remote::side_by_side;
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::run::out::publish;
use crate::session::survey::survey_together;
use crate::session::{Session, Task};
use crate::stderr;
use store::lock;

/// Brings what the shared cache has of the wanted stages into the store, and shows it in `out/`.
pub fn pull(global: &Global, stages: &[String]) -> Result<()> {
    let mut session = Session::open(&global.options(stages))?;
    session.store.writable()?;
    let remote = remote(&mut session)?;
    let console = Console::new("fetching")?;
    let stopped = || console.asked_to_stop();
    let _shared = lock::wait(&session.store.lock_of_store(), true, || {}, stopped)?;
    session.find_built_programs()?;
    let mut moved = Vec::new();
    let fetch = |task: &Task| {
        let held = session.store.lock(&task.key, || {}, stopped)?;
        let Some(_held) = held else { return Err(Error::Interrupted) };
        let (outcome, state) = match session.lookup(task)? {
            None => (remote.fetch(&session.store, &task.key, &console.about(&task.label))?, "fetched"),
            here => (here, "here"),
        };
        let bytes = outcome.iter().flat_map(|o| o.outputs.values()).map(|o| o.bytes).sum();
        let moved = Moved::new(&task.label, if outcome.is_some() { state } else { "not-there" }, bytes);
        outcome.iter().try_for_each(|outcome| session.note_last(task, outcome))?;
        Ok((outcome, moved))
    };
    let all = survey_together(&session, |tasks| {
        let (outcomes, now): (Vec<_>, Vec<_>) = side_by_side(tasks, fetch)?.into_iter().unzip();
        moved.extend(now);
        Ok::<_, Error>(outcomes)
    })?;
    for (i, found) in all.iter().enumerate().filter(|(i, _)| session.wanted[*i]) {
        match (&found.known, &found.tasks) {
            (Some(known), Some(_)) => publish(&session, i, known)?.aside.iter().for_each(stderr::line),
            (None, None) => moved.push(Moved::new(&session.graph.steps[i].id, "unknown", 0)),
            _ => {}
        }
    }
    list(global, &moved)
}

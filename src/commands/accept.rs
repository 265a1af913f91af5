//! `pipeline accept STAGE`.

use super::output::{print, print_json};
use crate::cache::results::{self, ActionResult, Last};
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::session::reasons::reasons;
use crate::session::{Session, StepOutputs};
use serde_json::json;

/// Records the newest outputs of stages under their present keys, and says what that overlooks.
pub fn accept(global: &Global, stages: &[String]) -> Result<()> {
    let mut session = Session::open(&global.options(stages))?;
    session.store.writable()?;
    session.find_programs(false)?;
    let mut asked = Vec::new();
    for name in stages {
        asked.extend(session.graph.find(name)?);
    }
    let mut known: Vec<Option<StepOutputs>> = vec![None; session.graph.steps.len()];
    let mut accepted = Vec::new();
    for i in 0..known.len() {
        if !session.wanted[i] {
            continue;
        }
        let step = &session.graph.steps[i];
        let Some(tasks) = session.tasks(i, &known)? else {
            return Err(Error::NotRun(step.id.clone()));
        };
        let mut done = Vec::new();
        for task in tasks {
            if let Some(outcome) = results::lookup(&session.store, &task.key)? {
                done.push((task, outcome));
                continue;
            }
            if !asked.contains(&i) {
                return Err(Error::HasToRun(task.label));
            }
            let old = results::last(&session.store, &task.label).map(|last| last.action.key());
            let Some(outcome) =
                old.as_ref().map(|key| results::lookup(&session.store, key)).transpose()?.flatten()
            else {
                return Err(Error::NothingToAccept(task.label));
            };
            if task.action.outputs != outcome.action.outputs {
                return Err(Error::OtherOutputs(task.label));
            }
            let overlooked = reasons(&session, &task);
            let new = ActionResult {
                action: task.action.clone(),
                accepted: old,
                finished: results::now(),
                ..outcome
            };
            results::record(&session.store, &task.key, &new)?;
            let last = Last { action: new.action.clone(), seconds: new.seconds, finished: new.finished };
            results::set_last(&session.store, &task.label, &last)?;
            accepted.push((task.label.clone(), overlooked));
            done.push((task, new));
        }
        let done: Vec<_> = done.iter().map(|(task, outcome)| (task, outcome)).collect();
        known[i] = Some(session.gather(&session.graph.steps[i], &done)?);
    }
    if global.json {
        let list: Vec<_> =
            accepted.iter().map(|(stage, why)| json!({"stage": stage, "overlooked": why})).collect();
        return print_json(&list);
    }
    for (stage, why) in &accepted {
        print(&format!("{stage}: accepted, although {}\n", why.join(", ")))?;
    }
    if accepted.is_empty() {
        print("nothing to accept: all of it is cached\n")?;
    }
    Ok(())
}

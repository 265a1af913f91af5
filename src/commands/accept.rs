//! `pipeline accept STAGE`.

use super::output::{print, print_json};
use crate::cache::results::{self, Last, Outcome};
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::session::reasons::reasons;
use crate::session::{Known, Session};
use serde_json::json;

/// Records the newest outputs of stages under their present keys, and says what that overlooks.
pub fn accept(global: &Global, stages: &[String]) -> Result<()> {
    let mut session = Session::open(&global.options(stages))?;
    session.find_programs(false)?;
    let mut asked = Vec::new();
    for name in stages {
        asked.extend(session.graph.find(name)?);
    }
    let mut known: Vec<Option<Known>> = vec![None; session.graph.steps.len()];
    let mut accepted = Vec::new();
    for i in 0..known.len() {
        if !session.wanted[i] {
            continue;
        }
        let step = &session.graph.steps[i];
        let Some(units) = session.units(i, &known)? else {
            return Err(Error::NotRun(step.id.clone()));
        };
        let mut done = Vec::new();
        for unit in units {
            if let Some(outcome) = results::lookup(&session.store, &unit.key)? {
                done.push((unit, outcome));
                continue;
            }
            if !asked.contains(&i) {
                return Err(Error::HasToRun(unit.label));
            }
            let old = results::last(&session.store, &unit.label).map(|last| last.action.key());
            let Some(outcome) =
                old.as_ref().map(|key| results::lookup(&session.store, key)).transpose()?.flatten()
            else {
                return Err(Error::NothingToAccept(unit.label));
            };
            if unit.action.outputs != outcome.action.outputs {
                return Err(Error::OtherOutputs(unit.label));
            }
            let overlooked = reasons(&session, &unit);
            let new =
                Outcome { action: unit.action.clone(), accepted: old, finished: results::now(), ..outcome };
            results::record(&session.store, &unit.key, &new)?;
            let last = Last { action: new.action.clone(), seconds: new.seconds, finished: new.finished };
            results::set_last(&session.store, &unit.label, &last)?;
            accepted.push((unit.label.clone(), overlooked));
            done.push((unit, new));
        }
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

//! What a run would do: every stage cached, to run, or waiting, each with its reason.

use crate::cache;
use crate::cache::remote::Quiet;
use crate::cache::results::{self, ActionResult};
use crate::session::error::Result;
use crate::session::reasons::reasons;
use crate::session::stale::{makes, stale};
use crate::session::{Made, Session, StepOutputs, Task};
use crate::text::counted;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use store::{Key, Produced};

/// Where a stage stands.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    Cached,
    /// `--with` stands in for it.
    Replaced,
    /// The shared cache has it.
    ToFetch {
        bytes: u64,
    },
    ToRun {
        reasons: Vec<String>,
    },
    /// It will be decided when these stages are done.
    Waiting {
        on: Vec<String>,
    },
}

/// One stage of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// Its name, with the variant where there is one.
    pub stage: String,
    /// The stage's name in the study.
    #[serde(skip)]
    pub step: String,
    #[serde(flatten)]
    pub state: State,
    /// Action key, when it is known already.
    pub key: Option<Key>,
    /// Files and folders of the study that its command names, which are inputs as well.
    pub files: Vec<String>,
    /// How long it took last time.
    pub last_seconds: Option<f64>,
    /// Its outputs, where it is cached.
    #[serde(skip)]
    pub outputs: BTreeMap<String, Produced>,
}

/// Plans all wanted steps, in the order they would run. Programs that are not built yet make their stages wait.
pub fn plan(session: &mut Session) -> Result<Vec<Planned>> {
    let mut planned = Vec::new();
    let stale = stale(session)?;
    if let Some(reasons) = &stale {
        let state = State::ToRun { reasons: reasons.clone() };
        planned.push(Planned {
            stage: "build".into(),
            step: "build".into(),
            state,
            key: None,
            files: Vec::new(),
            last_seconds: None,
            outputs: BTreeMap::new(),
        });
    }
    session.find_programs(stale.is_some())?;
    let mut known: Vec<Option<StepOutputs>> = vec![None; session.graph.steps.len()];
    let mut dropped: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); known.len()];
    let mut place = vec![None; known.len()];
    for i in 0..known.len() {
        if !session.wanted[i] {
            continue;
        }
        let step = &session.graph.steps[i];
        let last_seconds = results::last(&session.store, &step.id).map(|last| last.seconds);
        let mut key = None;
        let on: Vec<String> = step
            .needs()
            .filter(|need| known[*need].is_none())
            .map(|need| session.graph.steps[need].id.clone())
            .collect();
        let state = if let Some(stand_in) = session.stand_in(i)? {
            known[i] = Some(stand_in);
            State::Replaced
        } else if !on.is_empty() {
            let mut on = on;
            on.dedup();
            State::Waiting { on }
        } else if stale.is_some() && makes(session, step) {
            State::Waiting { on: vec!["build".into()] }
        } else if let Some(tasks) = session.tasks(i, &known)? {
            let all = tasks.len();
            let mut done = Vec::new();
            let mut missing: Vec<Task> = Vec::new();
            let (mut elsewhere, mut away) = (Vec::new(), 0);
            if let [task] = tasks.as_slice() {
                key = Some(task.key);
            }
            for task in tasks {
                let forced = session.forced.contains(&i);
                if let Some(outcome) = if forced { None } else { session.lookup(&task)? } {
                    done.push((task, outcome));
                } else if let Some(outcome) = if forced { None } else { look(session, &task.key)? } {
                    away += outcome.outputs.values().map(|o| o.bytes).sum::<u64>();
                    elsewhere.push((task, outcome));
                } else {
                    dropped[i].extend(session.dropped(&task)?);
                    missing.push(task);
                }
            }
            match missing.first() {
                None if !elsewhere.is_empty() => {
                    if let [(task, outcome)] = elsewhere.as_slice()
                        && !step.mapped()
                    {
                        // What comes after it can be planned as well; of several, the folder of all is not known.
                        let (outputs, actions) = (outcome.outputs.clone(), vec![Made::new(task, outcome)]);
                        known[i] = Some(StepOutputs { outputs, replaced: Vec::new(), actions });
                    }
                    State::ToFetch { bytes: away }
                }
                None => {
                    let done: Vec<_> = done.iter().map(|(task, outcome)| (task, outcome)).collect();
                    known[i] = Some(session.gather(step, &done)?);
                    State::Cached
                }
                Some(first) => {
                    let mut reasons = reasons(session, first);
                    if step.mapped() {
                        reasons.insert(
                            0,
                            format!(
                                "{} of {}",
                                missing.len(),
                                counted(all, if step.shards.is_some() { "shard" } else { "entry" })
                            ),
                        );
                    }
                    State::ToRun { reasons }
                }
            }
        } else {
            State::Waiting { on: vec!["build".into()] }
        };
        place[i] = Some(planned.len());
        let step = session.graph.steps[i].stage.clone();
        let outputs = known[i].as_ref().map(|k| k.outputs.clone()).unwrap_or_default();
        let stage = session.graph.steps[i].id.clone();
        let files = session.followed(&session.graph.steps[i]).into_keys().collect();
        planned.push(Planned { stage, step, state, key, files, last_seconds, outputs });
    }
    rerun_producers(session, &mut planned, &place, dropped, &known)?;
    Ok(planned)
}

/// What the shared cache has under a key. One that does not answer is told of once, and then not asked again.
fn look(session: &Session, key: &Key) -> Result<Option<ActionResult>> {
    let Some(remote) = session.remote.as_ref().filter(|remote| remote.answers()) else { return Ok(None) };
    match remote.look(&session.store, key, &Quiet) {
        Err(cache::Error::Unusable(e)) => {
            remote.failed(&e, false).iter().for_each(crate::stderr::line);
            Ok(None)
        }
        found => Ok(found?),
    }
}

/// A step whose dropped outputs are read by one that has to run will run as well, and so on upwards.
fn rerun_producers(
    session: &Session,
    planned: &mut [Planned],
    place: &[Option<usize>],
    mut dropped: Vec<BTreeSet<usize>>,
    known: &[Option<StepOutputs>],
) -> Result<()> {
    for reader in (0..dropped.len()).rev() {
        for from in std::mem::take(&mut dropped[reader]) {
            let Some(at) = place[from].filter(|at| matches!(planned[*at].state, State::Cached)) else {
                continue;
            };
            let reasons =
                vec![format!("its dropped outputs are needed by {}", session.graph.steps[reader].id)];
            planned[at].state = State::ToRun { reasons };
            for task in session.tasks(from, known)?.unwrap_or_default() {
                dropped[from].extend(session.dropped(&task)?);
            }
        }
    }
    Ok(())
}

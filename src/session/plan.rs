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
        let last_seconds = results::last(&session.store, &session.graph.steps[i].id).map(|last| last.seconds);
        let Looked { state, key, outputs } = look_at(session, i, stale.is_some(), &known, &mut dropped[i])?;
        known[i] = outputs;
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

/// What was found of a step.
struct Looked {
    state: State,
    /// Of its action, where it has one.
    key: Option<Key>,
    outputs: Option<StepOutputs>,
}

/// What there is of a step, as far as those before it are known. Steps whose dropped outputs it needs are added to `dropped`.
fn look_at(
    session: &Session,
    i: usize,
    stale: bool,
    known: &[Option<StepOutputs>],
    dropped: &mut BTreeSet<usize>,
) -> Result<Looked> {
    let step = &session.graph.steps[i];
    let waiting = |on| Ok(Looked { state: State::Waiting { on }, key: None, outputs: None });
    if let Some(stand_in) = session.stand_in(i)? {
        return Ok(Looked { state: State::Replaced, key: None, outputs: Some(stand_in) });
    }
    let mut seen = BTreeSet::new();
    let unknown = step.needs().filter(|need| known[*need].is_none() && seen.insert(*need));
    let on: Vec<String> = unknown.map(|need| session.graph.steps[need].id.clone()).collect();
    if !on.is_empty() {
        return waiting(on);
    }
    if stale && makes(session, step) {
        return waiting(vec!["build".into()]);
    }
    let Some(tasks) = session.tasks(i, known)? else { return waiting(vec!["build".into()]) };
    let key = if let [task] = tasks.as_slice() { Some(task.key) } else { None };
    let (state, outputs) = look_for(session, i, tasks, dropped)?;
    Ok(Looked { state, key, outputs })
}

/// What there is of the tasks of a step, here and in the shared cache.
fn look_for(
    session: &Session,
    i: usize,
    tasks: Vec<Task>,
    dropped: &mut BTreeSet<usize>,
) -> Result<(State, Option<StepOutputs>)> {
    let (step, forced) = (&session.graph.steps[i], session.forced.contains(&i));
    let all = tasks.len();
    let (mut done, mut elsewhere, mut away) = (Vec::new(), Vec::new(), 0);
    let mut missing: Vec<Task> = Vec::new();
    for task in tasks {
        if let Some(outcome) = if forced { None } else { session.lookup(&task)? } {
            done.push((task, outcome));
        } else if let Some(outcome) = if forced { None } else { look(session, &task.key)? } {
            away += outcome.outputs.values().map(|o| o.bytes).sum::<u64>();
            elsewhere.push((task, outcome));
        } else {
            dropped.extend(session.dropped(&task)?);
            missing.push(task);
        }
    }
    if let Some(first) = missing.first() {
        let mut reasons = reasons(session, first);
        if step.mapped() {
            let part = if step.shards.is_some() { "shard" } else { "entry" };
            reasons.insert(0, format!("{} of {}", missing.len(), counted(all, part)));
        }
        return Ok((State::ToRun { reasons }, None));
    }
    if elsewhere.is_empty() {
        let done: Vec<_> = done.iter().map(|(task, outcome)| (task, outcome)).collect();
        return Ok((State::Cached, Some(session.gather(step, &done)?)));
    }
    let mut outputs = None;
    if let [(task, outcome)] = elsewhere.as_slice()
        && !step.mapped()
    {
        // What comes after it can be planned as well; of several, the folder of all is not known.
        let (made, actions) = (outcome.outputs.clone(), vec![Made::new(task, outcome)]);
        outputs = Some(StepOutputs { outputs: made, replaced: Vec::new(), actions });
    }
    Ok((State::ToFetch { bytes: away }, outputs))
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

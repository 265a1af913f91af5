//! What a run would do: every stage cached, to run, or waiting, each with its reason.

use crate::cache;
use crate::cache::remote::{Quiet, side_by_side};
use crate::cache::results::{self, ActionResult};
use crate::name_map::NameMap;
use crate::session::error::Result;
use crate::session::reasons::reasons;
use crate::session::stale::{makes, stale};
use crate::session::survey::waves;
use crate::session::{Made, Session, StepOutputs, Task};
use crate::text::counted;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use store::{Key, Produced};

/// Steps that are looked at together, where they do not wait for each other.
const TOGETHER: usize = 1024;

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
    /// How many parts of it would run, where that is known.
    #[serde(skip)]
    pub parts: Option<usize>,
    /// Its outputs, where it is cached.
    #[serde(skip)]
    pub outputs: NameMap<Produced>,
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
            parts: Some(1),
            outputs: NameMap::new(),
        });
    }
    session.find_programs(stale.is_some())?;
    let steps = session.graph.steps.len();
    let mut known: Vec<Option<StepOutputs>> = vec![None; steps];
    let mut dropped: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); steps];
    let mut all: Vec<Option<Looked>> = (0..steps).map(|_| None).collect();
    let waves = waves(session);
    for together in waves.iter().flat_map(|wave| wave.chunks(TOGETHER)) {
        let here = together.iter().map(|i| look_at(session, *i, stale.is_some(), &known));
        for (i, mut looked) in look_elsewhere(session, here, &mut dropped)? {
            known[i] = looked.outputs.take();
            all[i] = Some(looked);
        }
    }
    let mut place = vec![None; steps];
    for (i, looked) in all.into_iter().enumerate() {
        let Some(Looked { state, key, parts, .. }) = looked else { continue };
        let of = &session.graph.steps[i];
        let last_seconds = results::last(&session.store, &of.id).map(|last| last.seconds);
        let outputs = known[i].as_ref().map(|k| k.outputs.clone()).unwrap_or_default();
        let files = session.followed(of).into_keys().collect();
        place[i] = Some(planned.len());
        let (stage, step) = (of.id.clone(), of.stage.clone());
        planned.push(Planned { stage, step, state, key, files, last_seconds, parts, outputs });
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
    /// How many parts of it are missing.
    parts: Option<usize>,
}

/// What the store says of a step.
enum Here {
    Decided(usize, Looked),
    /// Its tasks, with the results of those that are at hand.
    Tasks(usize, Vec<(Task, Option<ActionResult>)>),
}

/// What there is of a step in the store, as far as those before it are known.
fn look_at(session: &Session, i: usize, stale: bool, known: &[Option<StepOutputs>]) -> Result<Here> {
    let step = &session.graph.steps[i];
    let parts =
        if step.each.is_some() { None } else { Some(step.shards.map_or(1, |shards| shards as usize)) };
    let decided = |state, outputs| Ok(Here::Decided(i, Looked { state, key: None, outputs, parts }));
    if let Some(stand_in) = session.stand_in(i)? {
        return decided(State::Replaced, Some(stand_in));
    }
    let mut seen = BTreeSet::new();
    let unknown = step.needs().filter(|need| known[*need].is_none() && seen.insert(*need));
    let on: Vec<String> = unknown.map(|need| session.graph.steps[need].id.clone()).collect();
    if !on.is_empty() {
        return decided(State::Waiting { on }, None);
    }
    let build = || State::Waiting { on: vec!["build".into()] };
    if stale && makes(session, step) {
        return decided(build(), None);
    }
    let Some(tasks) = session.tasks(i, known)? else { return decided(build(), None) };
    let forced = session.forced.contains(&i);
    let found = tasks.into_iter().map(|task| {
        let outcome = if forced { None } else { session.lookup(&task)? };
        Ok((task, outcome))
    });
    Ok(Here::Tasks(i, found.collect::<Result<_>>()?))
}

/// Asks the shared cache for all that is not at hand, side by side. Steps whose dropped outputs are needed are added to
/// `dropped`.
fn look_elsewhere(
    session: &Session,
    here: impl Iterator<Item = Result<Here>>,
    dropped: &mut [BTreeSet<usize>],
) -> Result<Vec<(usize, Looked)>> {
    let here = here.collect::<Result<Vec<_>>>()?;
    let asked = here.iter().filter_map(|of| match of {
        Here::Tasks(i, tasks) if !session.forced.contains(i) => Some(tasks),
        _ => None,
    });
    let asked = asked.flatten().filter(|(_, outcome)| outcome.is_none()).map(|(task, _)| task.key);
    let keys: Vec<Key> = asked.collect::<BTreeSet<_>>().into_iter().collect();
    let found = match session.remote {
        Some(_) => side_by_side(&keys, |key| look(session, key))?,
        None => Vec::new(),
    };
    let elsewhere: HashMap<Key, ActionResult> =
        keys.into_iter().zip(found).filter_map(|(key, outcome)| Some((key, outcome?))).collect();
    here.into_iter()
        .map(|of| match of {
            Here::Decided(i, looked) => Ok((i, looked)),
            Here::Tasks(i, tasks) => {
                let key = if let [(task, _)] = tasks.as_slice() { Some(task.key) } else { None };
                let here = tasks.iter().filter(|(_, outcome)| outcome.is_some()).count();
                let parts = Some(tasks.len() - here);
                let (state, outputs) = conclude(session, i, tasks, &elsewhere, &mut dropped[i])?;
                Ok((i, Looked { state, key, outputs, parts }))
            }
        })
        .collect()
}

/// Where a step stands, by what there is of its tasks here and elsewhere.
fn conclude(
    session: &Session,
    i: usize,
    tasks: Vec<(Task, Option<ActionResult>)>,
    elsewhere: &HashMap<Key, ActionResult>,
    dropped: &mut BTreeSet<usize>,
) -> Result<(State, Option<StepOutputs>)> {
    let (step, all) = (&session.graph.steps[i], tasks.len());
    let (mut done, mut away, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut missing: Vec<Task> = Vec::new();
    for (task, outcome) in tasks {
        if let Some(outcome) = outcome {
            done.push((task, outcome));
        } else if let Some(outcome) = elsewhere.get(&task.key).filter(|_| !session.forced.contains(&i)) {
            bytes += outcome.outputs.values().map(|o| o.bytes).sum::<u64>();
            away.push((task, outcome));
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
    if away.is_empty() {
        let done: Vec<_> = done.iter().map(|(task, outcome)| (task, outcome)).collect();
        return Ok((State::Cached, Some(session.gather(step, &done)?)));
    }
    let mut outputs = None;
    if let [(task, outcome)] = away.as_slice()
        && !step.mapped()
    {
        // What comes after it can be planned as well; of several, the folder of all is not known.
        let (made, actions) = (outcome.outputs.clone(), vec![Made::new(task, outcome)]);
        outputs = Some(StepOutputs { outputs: made, replaced: Vec::new(), actions });
    }
    Ok((State::ToFetch { bytes }, outputs))
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

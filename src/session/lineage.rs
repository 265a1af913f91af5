//! `pipeline.lineage`: everything upstream of a stage, as a JSON file without times.

use crate::session::{Session, StepOutputs};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use store::digest::Digest;
use study::graph::Step;

/// The document.
#[derive(Serialize)]
struct Lineage {
    /// In the order in which they can be run.
    stages: Vec<Origin>,
}

#[derive(Clone, Default, Serialize)]
struct Origin {
    stage: String,
    /// Of a stage with several actions: which one this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<String>,
    /// The command as the study has it; for a stage program its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program_digest: Option<Digest>,
    params: BTreeMap<String, String>,
    inputs: BTreeMap<String, Digest>,
    outputs: BTreeMap<String, Digest>,
    /// Outputs that were put in the stage's place by hand.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<String>,
}

/// The lineage of a step; `None` while a step before it is not done.
pub fn of(session: &Session, step: &Step, known: &[Option<StepOutputs>]) -> Option<Vec<u8>> {
    let graph = &session.graph;
    let mut above: BTreeSet<usize> = BTreeSet::new();
    let mut open: Vec<usize> = step.needs().collect();
    while let Some(i) = open.pop() {
        if above.insert(i) && !session.replaced.contains_key(&i) {
            open.extend(graph.steps[i].needs());
        }
    }
    let mut stages = Vec::new();
    for i in above {
        let done = known[i].as_ref()?;
        let step = &graph.steps[i];
        let outputs: BTreeMap<_, _> = done.outputs.iter().map(|(name, p)| (name.clone(), p.digest)).collect();
        let origin = Origin {
            stage: step.stage.clone(),
            outputs,
            replaced: done.replaced.clone(),
            ..Origin::default()
        };
        if done.actions.is_empty() {
            stages.push(origin);
            continue;
        }
        // A mapped stage has one action for each entry, and gathered outputs.
        stages.extend(done.actions.iter().map(|(entry, action)| Origin {
            entry: entry.clone(),
            program: Some(action.template.join(" ")),
            program_digest: Some(action.program),
            params: action.params.clone(),
            inputs: action.inputs.clone(),
            ..origin.clone()
        }));
    }
    let lineage = Lineage { stages };
    let mut json = serde_json::to_vec_pretty(&lineage).ok()?;
    json.push(b'\n');
    Some(json)
}

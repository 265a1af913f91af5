//! `pipeline.lineage`: everything upstream of a stage, as a JSON file: what it is of, and when and where it was made. It says
//! the same whatever else is selected.

use crate::cache::results::Ran;
use crate::name_map::NameMap;
use crate::session::{Made, Session, StepOutputs};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use store::digest::Digest;
use study::graph::{Call, Source, Step};

/// The document.
#[derive(Serialize)]
struct Lineage {
    study: Study,
    /// In the order in which they can be run.
    stages: Vec<Origin>,
}

/// Which study.
#[derive(Serialize)]
struct Study {
    name: String,
    /// Its file, from its root.
    file: String,
    /// The variant; `*` of what is made of them all.
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    /// What `--set` said of these stages, and of variables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    set: Vec<String>,
    /// The folder of the programs, where it lies in the root.
    #[serde(skip_serializing_if = "String::is_empty")]
    programs: String,
}

#[derive(Clone, Default, Serialize)]
struct Origin {
    stage: String,
    /// The variants that it belongs to, where the lineage is of more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    variants: Vec<String>,
    /// Of a stage with several actions: which one this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<String>,
    /// The command as the study has it; for a stage program its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    /// The words of a command, with its places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    command: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program_digest: Option<Digest>,
    params: NameMap<String>,
    #[serde(skip_serializing_if = "NameMap::is_empty")]
    env: NameMap<String>,
    inputs: NameMap<Digest>,
    /// Where inputs came from, as far as that is the same everywhere.
    #[serde(skip_serializing_if = "NameMap::is_empty")]
    sources: NameMap<InputSource>,
    outputs: NameMap<Digest>,
    /// Outputs that were put in the stage's place by hand.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ran: Option<When>,
}

/// Where an input came from.
#[derive(Clone, Serialize)]
#[serde(untagged)]
enum InputSource {
    Path {
        path: String,
    },
    Output {
        /// `stage.output`.
        output: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        entry: Option<String>,
    },
}

/// When and where a result was made.
#[derive(Clone, Serialize)]
struct When {
    finished: u64,
    seconds: f64,
    #[serde(flatten)]
    ran: Option<Ran>,
    /// What the program said that it ran with, beside what the runner saw.
    #[serde(flatten)]
    reported: BTreeMap<String, String>,
}

impl When {
    fn of(made: &Made) -> Self {
        let mut ran = made.ran.as_deref().cloned();
        let reported = ran.as_mut().map(|ran| std::mem::take(&mut ran.reported)).unwrap_or_default();
        Self { finished: made.finished, seconds: made.seconds, ran, reported }
    }
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
    let across = step.across() || above.iter().any(|i| graph.steps[*i].across());
    let mut stages = Vec::new();
    for i in &above {
        let done = known[*i].as_ref()?;
        let step = &graph.steps[*i];
        let outputs: NameMap<_> = done.outputs.iter().map(|(name, p)| (name.clone(), p.digest)).collect();
        let own = || step.variants.iter().filter(|variant| !variant.is_empty()).cloned().collect();
        let origin = Origin {
            stage: if across { called(session, step) } else { step.stage.clone() },
            // Of one variant they would tell what else is selected.
            variants: if across { own() } else { Vec::new() },
            outputs,
            replaced: done.replaced.clone(),
            ..Origin::default()
        };
        if done.actions.is_empty() {
            stages.push(origin);
            continue;
        }
        // A mapped stage has one action for each entry, and gathered outputs.
        stages.extend(done.actions.iter().map(|made| Origin {
            entry: made.entry.clone(),
            program: Some(made.action.template.join(" ")),
            command: if matches!(step.call, Call::Command(..)) {
                made.action.template.clone()
            } else {
                Vec::new()
            },
            program_digest: Some(made.action.program),
            params: made.action.params.clone(),
            env: made.action.env.clone(),
            inputs: made.action.inputs.clone(),
            sources: sources(session, step, made, across),
            ran: Some(When::of(made)),
            ..origin.clone()
        }));
    }
    let lineage = Lineage { study: study(session, step, &above, across), stages };
    let mut json = serde_json::to_vec_pretty(&lineage).ok()?;
    json.push(b'\n');
    Some(json)
}

/// What a stage is called among those of every variant: `dit-s/train`, by the first variant that has it, unless all do.
fn called(session: &Session, step: &Step) -> String {
    let named =
        |step: &Step| step.variants.iter().filter(|v| !v.is_empty()).cloned().collect::<BTreeSet<_>>();
    let all: BTreeSet<String> = session.graph.steps.iter().flat_map(named).collect();
    let first = step.variants.iter().find(|variant| !variant.is_empty());
    match first.filter(|_| named(step).len() < all.len()) {
        Some(first) => format!("{first}/{}", step.stage),
        None => step.stage.clone(),
    }
}

fn study(session: &Session, step: &Step, above: &BTreeSet<usize>, across: bool) -> Study {
    let (graph, asked) = (&session.graph, &session.asked);
    let inside = |path: &Path| {
        let path = path.canonicalize().ok()?;
        Some(path.strip_prefix(graph.root.canonicalize().ok()?).ok()?.display().to_string())
    };
    let about = |set: &&String| {
        let stage = set.split('.').next().unwrap_or_default();
        stage == "vars" || stage == step.stage || above.iter().any(|i| graph.steps[*i].stage == stage)
    };
    // The first variant that has the step, whatever is selected.
    let variant = if across { Some("*") } else { step.id.split_once('@').map(|(_, variant)| variant) };
    let programs = graph.build.as_ref().map(|build| build.programs.as_path()).filter(|p| p.is_relative());
    Study {
        name: graph.name.clone(),
        file: inside(&asked.file).unwrap_or_default(),
        variant: variant.map(str::to_string),
        profile: asked.profile.clone(),
        set: asked.set.iter().filter(about).cloned().collect(),
        programs: programs.map(|path| path.display().to_string()).unwrap_or_default(),
    }
}

/// Where the inputs of an action came from. What lies elsewhere on this machine is not said; nor is, of several variants,
/// which one's output it was, as its digest tells.
fn sources(session: &Session, step: &Step, made: &Made, across: bool) -> NameMap<InputSource> {
    let of = |(index, input): (usize, &study::graph::Input)| {
        let entry = if step.each == Some(index) { made.entry.clone() } else { None };
        let from = match &input.source {
            Source::Path(path) if path.is_relative() => {
                let path = path.display().to_string();
                // An entry of a folder by its whole name.
                let file = made.action.names.get(&input.name).filter(|_| entry.is_some());
                InputSource::Path { path: file.map_or(path.clone(), |file| format!("{path}/{file}")) }
            }
            Source::Output(from, output) if !across => {
                let from = &session.graph.steps[*from];
                InputSource::Output {
                    output: format!("{}.{}", from.stage, from.outputs[*output].name),
                    entry,
                }
            }
            _ => return None,
        };
        Some((input.name.clone(), from))
    };
    step.inputs.iter().enumerate().filter_map(of).collect()
}

//! A step of the study: why it runs, its line to run by hand, what it reads and gives, and its logs.

use crate::cache::results::ActionResult;
use crate::cache::runs::Report;
use crate::run::logs::study_of;
use crate::session::{Place, Task};
use crate::ui::by_hand;
use crate::ui::known::Known;
use crate::ui::parts::{content, outputs, ran, there};
use crate::ui::row::{curves, so_far};
use crate::ui::site::{Now, Site};
use crate::ui::slug::slug;
use crate::ui::state::Is;
use crate::ui::tabled::numbers;
use serde_json::{Map, Value, json};
use store::{Area, Produced, Store, record};
use study::graph::{Source, Step};

/// So many tasks of a mapped step are listed.
const TASKS: usize = 1000;
/// So many logs are listed, of so many runs that are looked through.
const LOGS: usize = 12;
const RUNS: usize = 300;

/// The page of a step.
pub fn describe(site: &Site, now: &Now, i: usize) -> Value {
    let known = &now.known;
    let step = &known.session.graph.steps[i];
    let tasks = known.tasks(i);
    let first = tasks.first();
    let action = first.map(|(task, _)| &task.action);
    let results: Vec<&ActionResult> = tasks.iter().filter_map(|(_, result)| result.as_ref()).collect();
    let done = known.found().get(i).and_then(|found| found.known.as_ref());
    let made = done.map(|done| done.outputs.clone()).unwrap_or_default();
    let files = step.outputs.iter().map(|output| (output.name.clone(), output.file.clone())).collect();
    let store = &known.session.store;
    let (state, logs) = (&now.states[i], logs(store, &step.id, step.mapped()));
    let mut series = curves(site, now, i);
    if series.is_empty() && step.mapped() && matches!(state.is, Is::Running | Is::Failed | Is::Queued) {
        series = so_far(site, now, i);
    }
    let params: Map<String, Value> =
        step.params.iter().map(|(name, value)| (name.clone(), value.0.clone().into())).collect();
    let tuning: Map<String, Value> =
        step.tuning.iter().map(|(name, value)| (name.clone(), value.0.clone().into())).collect();
    let mut value = json!({
        "id": step.id, "stage": step.stage, "index": i, "variants": step.variants, "state": state,
        "why": why(now, i),
        "command": first.and_then(|(task, _)| by_hand::line(&known.session, task)),
        "key": first.filter(|_| tasks.len() == 1).map(|(task, _)| task.key),
        "params": action.map_or_else(|| Value::Object(params), |action| json!(action.params)),
        "tuning": tuning,
        "env": action.map(|action| action.env.clone()).unwrap_or_default(),
        "resources": {
            "cpus": step.resources.cpus, "memory": step.resources.memory.0, "gpus": step.resources.gpus,
        },
        "program": action.map(|action| json!({
            "name": action.template.join(" "), "digest": action.program.hex(),
        })),
        "inputs": inputs(known, step, first.map(|(task, _)| task)),
        "outputs": outputs(store, &made, &files),
        "metrics": numbers(known, i),
        "ran": results.first().map(|result| ran(result)),
        "tasks": if step.mapped() { listed(known, i) } else { Vec::new() },
        "series": series,
        "logs": logs,
    });
    if step.mapped() && tasks.len() > TASKS {
        value["more_tasks"] = (tasks.len() - TASKS).into();
    }
    value
}

/// Why it has to run, or why it ran the last time.
fn why(now: &Now, i: usize) -> Vec<String> {
    let (state, why) = (&now.states[i], &now.known.why[i]);
    if !why.is_empty() {
        return why.clone();
    }
    if !state.reason.is_empty() {
        return vec![state.reason.clone()];
    }
    // Of what is cached, the run that made it knows.
    let id = &now.known.session.graph.steps[i].id;
    let run = state.run.as_ref().and_then(|run| now.past.run(run));
    let report = run.and_then(|run| record::read::<Report>(&now.known.session.store.run(&run.run)));
    let row = report.and_then(|report| report.stages.into_iter().find(|row| row.stage == *id));
    row.map(|row| row.reason).filter(|reason| !reason.is_empty()).into_iter().collect()
}

fn inputs(known: &Known, step: &Step, task: Option<&Task>) -> Vec<Value> {
    let steps = &known.session.graph.steps;
    let store = &known.session.store;
    let input = |(index, input): (usize, &study::graph::Input)| {
        let (from, at) = match &input.source {
            Source::Output(from, output) => {
                let step = &steps[*from];
                (format!("{}.{}", step.id, step.outputs[*output].name), Some(*from))
            }
            Source::Path(path) => (path.display().to_string(), None),
            Source::Lineage => ("pipeline.lineage".into(), None),
            Source::Across(parts) => {
                let name = parts.first().map(|part| {
                    format!("{}.{}@*", steps[part.step].stage, steps[part.step].outputs[part.output].name)
                });
                (name.unwrap_or_default(), None)
            }
        };
        let found = task.and_then(|task| task.inputs.iter().find(|own| own.name == input.name));
        // Of a mapped step the whole folder, not its first entry.
        let whole = if step.each == Some(index) { output_of(known, &input.source) } else { None };
        let digest = whole.as_ref().map(|whole| whole.digest).or(found.map(|own| own.digest));
        let in_store = whole.is_some() || found.is_some_and(|own| matches!(own.place, Place::Store));
        let bytes = output_of(known, &input.source).map(|output| output.bytes);
        let bytes = bytes.or_else(|| {
            let digest = digest.filter(|_| in_store)?;
            std::fs::metadata(store.place(&digest))
                .ok()
                .filter(std::fs::Metadata::is_file)
                .map(|meta| meta.len())
        });
        json!({
            "name": input.name, "from": from, "step": at, "digest": digest, "bytes": bytes,
            "content": digest.filter(|digest| in_store && there(store, digest)).map(|digest| content(&digest)),
        })
    };
    step.inputs.iter().enumerate().map(input).collect()
}

fn output_of(known: &Known, source: &Source) -> Option<Produced> {
    let Source::Output(from, output) = source else { return None };
    let name = &known.session.graph.steps[*from].outputs[*output].name;
    known.found().get(*from)?.known.as_ref()?.outputs.get(name).cloned()
}

/// The tasks of a mapped step.
fn listed(known: &Known, i: usize) -> Vec<Value> {
    let store = &known.session.store;
    let task = |(task, result): &(Task, Option<ActionResult>)| {
        let is = if result.is_some() { Is::Cached } else { Is::ToRun };
        let made = result.as_ref().map(|result| outputs(store, &result.outputs, &task.action.outputs));
        json!({
            "label": task.label, "is": is, "seconds": result.as_ref().map(|result| result.seconds),
            "outputs": made.unwrap_or_else(|| json!([])),
        })
    };
    known.tasks(i).iter().take(TASKS).map(task).collect()
}

/// The logs of a step, those of the newest run first.
fn logs(store: &Store, id: &str, mapped: bool) -> Vec<Value> {
    let mut runs = store.list(Area::Logs);
    runs.sort();
    let mut found = Vec::new();
    for folder in runs.iter().rev().take(RUNS) {
        let Some(run) = folder.file_name().and_then(|name| name.to_str()) else { continue };
        // Several studies may share a store.
        if study_of(store, run).is_some_and(|study| study != store.study) {
            continue;
        }
        let own = store.log(run, id);
        let mut files = vec![own.with_extension("events"), own.clone()];
        if mapped || own.with_extension("rank-1.log").is_file() {
            let beginning = own.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            files.extend(entries.filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let rest = name.strip_prefix(beginning.as_str()).unwrap_or_default();
                let log = rest.ends_with(".log") || rest.ends_with(".events");
                (rest.starts_with('[') || rest.starts_with(".rank-")) && log
            }));
        }
        files.sort();
        for path in files {
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            let (Some(file), Some(label)) = (path.file_name(), path.file_stem()) else { continue };
            let kind = if path.extension().is_some_and(|e| e == "events") { "events" } else { "log" };
            if found.len() < LOGS {
                found.push(json!({
                    "label": label.to_string_lossy(), "run": run, "kind": kind, "bytes": meta.len(),
                    "name": format!("log/{run}/{}", slug(&file.to_string_lossy())),
                }));
            }
        }
        if found.len() >= LOGS {
            break;
        }
    }
    found
}

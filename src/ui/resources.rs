//! What the page is told: one value for each name.

use crate::cache::runs::Report;
use crate::ui::content;
use crate::ui::log::{self, Part};
use crate::ui::long::{Long, object};
use crate::ui::past::Summary;
use crate::ui::site::{Now, Site, clean};
use crate::ui::slug::slug;
use crate::ui::{row, step, tabled};
use serde_json::{Value, json};
use store::record;

/// A value, or why there is none in one sentence.
pub type Answer = Result<Value, &'static str>;

/// The value of a name; `part` says which part of a log.
pub fn answer(site: &Site, name: &str, part: Part) -> Answer {
    let now = site.now();
    if let Some(long) = long(&now, name) {
        return Ok(long.value());
    }
    let value = match name.split('/').collect::<Vec<_>>().as_slice() {
        ["runs"] => Some(runs(&now)),
        ["run", run] => one_run(&now, run),
        ["row", of] => row::find(site, &now, of),
        ["step", of] => now.known.of_slug(of).map(|i| step::describe(site, &now, i)),
        ["log", run, file] => {
            let path = log::find(&now.known.session.store, run, file);
            path.and_then(|path| log::read(&path, part).ok())
        }
        ["content", hex] => {
            content::find(&now.known.session.store, hex).map(|digest| content::describe(site, &digest))
        }
        _ => None,
    };
    value.map(clean).ok_or("there is nothing of this name")
}

/// The same as text.
pub fn text(site: &Site, name: &str, part: Part) -> Result<String, &'static str> {
    let now = site.now();
    match long(&now, name) {
        Some(long) => Ok(long.text()),
        None => answer(site, name, part).map(|value| value.to_string()),
    }
}

/// Those that are long.
fn long<'a>(now: &'a Now, name: &str) -> Option<Long<'a>> {
    match name {
        "study" => Some(study(now)),
        "table" => Some(tabled::study(now)),
        "table-runs" => Some(tabled::past(now)),
        _ => None,
    }
}

fn study(now: &Now) -> Long<'_> {
    let graph = &now.known.session.graph;
    let mut stages: Vec<&str> = Vec::new();
    let mut variants: Vec<&str> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for step in &graph.steps {
        if seen.insert((false, step.stage.as_str())) {
            stages.push(&step.stage);
        }
        variants.extend(step.variants.iter().map(String::as_str).filter(|name| seen.insert((true, name))));
    }
    let step = move |(i, step): (usize, &study::graph::Step)| {
        let mut needs: Vec<usize> = step.needs().collect();
        needs.sort_unstable();
        needs.dedup();
        let mapped = match (step.each, step.shards) {
            (Some(_), _) => Some("entries"),
            (_, Some(_)) => Some("shards"),
            _ => None,
        };
        json!({
            "id": step.id, "stage": step.stage, "variants": step.variants, "needs": needs,
            "across": step.across(), "mapped": mapped, "engine": step.engine.name(),
            "name": format!("step/{}", slug(&step.id)), "state": now.states[i],
        })
    };
    let steps = graph.steps.iter().enumerate().map(step);
    let file = &now.known.session.asked.file;
    let head = json!({
        "study": graph.name, "file": file.file_name().unwrap_or_default().to_string_lossy(),
        "runner": env!("CARGO_PKG_VERSION"), "made": crate::cache::results::now(), "version": now.version,
        "error": now.error.as_ref().or(now.known.error.as_ref()), "looking": !now.known.looked(),
        "stages": stages, "variants": variants, "live": now.live,
    });
    Long { head: object(head), lists: vec![("steps", Box::new(steps))] }
}

fn runs(now: &Now) -> Value {
    let under_way = now.live.iter().map(|live| (live, "running"));
    let lost = now.lost.iter().map(|live| (live, "lost"));
    let line = |(live, result): (&crate::ui::journals::Live, &str)| {
        json!({
            "run": live.run, "name": live.name, "note": null, "started": live.started, "finished": null,
            "result": result, "counts": {}, "commit": null, "changed": false, "host": live.host, "gpus": [],
            "study": now.known.session.graph.name, "detail": null,
        })
    };
    let mut all: Vec<Value> = under_way.chain(lost).map(line).collect();
    let own = |run: &&std::sync::Arc<Summary>| run.study == now.known.session.graph.name;
    all.extend(now.past.runs.iter().filter(own).map(|run| run.line()));
    all.sort_by(|a, b| b["run"].as_str().cmp(&a["run"].as_str()));
    json!({ "runs": all })
}

fn one_run(now: &Now, run: &str) -> Option<Value> {
    let store = &now.known.session.store;
    let summary = now.past.run(run)?;
    let report = record::read::<Report>(&store.run(&summary.run))?;
    let mut variants: Vec<&String> = report.stages.iter().flat_map(|row| &row.variants).collect();
    variants.sort();
    variants.dedup();
    if variants.iter().any(|name| !name.is_empty()) {
        variants.retain(|name| !name.is_empty());
    }
    let rows: Vec<String> = variants.iter().map(|variant| tabled::of_run(run, variant)).collect();
    let entries = std::fs::read_dir(store.logs(&summary.run)).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    let log = |path: &std::path::PathBuf| {
        let kind = match path.extension()?.to_str()? {
            "log" => "log",
            "events" => "events",
            _ => return None,
        };
        let (label, file) = (path.file_stem()?.to_string_lossy(), path.file_name()?.to_string_lossy());
        let bytes = std::fs::metadata(path).ok()?.len();
        let name = format!("log/{run}/{}", slug(&file));
        Some(json!({ "label": label, "run": run, "kind": kind, "name": name, "bytes": bytes }))
    };
    let logs: Vec<Value> = files.iter().filter_map(log).take(1000).collect();
    let mut value = serde_json::to_value(&report).ok()?;
    value["rows"] = json!(rows);
    value["logs"] = json!(logs);
    Some(value)
}

//! A variant, of the study as it is or of a past run, with all that is compared of it.

use crate::cache::results::{self, ActionResult};
use crate::cache::runs::{Report, StageReport};
use crate::name_map::NameMap;
use crate::ui::content::{Form, raw};
use crate::ui::curves::Curve;
use crate::ui::growing::Begun;
use crate::ui::parts::{outputs, ran, there};
use crate::ui::site::{Now, Site};
use crate::ui::slug::slug;
use crate::ui::state::Is;
use crate::ui::tabled::{numbers, of_run};
use crate::ui::{past, picture};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use store::digest::{Digest, Kind};
use store::manifest::Item;
use store::{Produced, Store, record};

/// A file of more bytes is no log of numbers, or is too long to be drawn for a comparison.
const LARGEST: u64 = 512 << 20;

/// A row by the part of its name after `row/`.
pub fn find(site: &Site, now: &Now, name: &str) -> Option<Value> {
    if let Some(wanted) = name.strip_prefix("v~") {
        let steps = || now.known.session.graph.steps.iter();
        // One of several seeds, or what stands for them all: the first of them.
        let named = steps().flat_map(|step| &step.variants).find(|variant| slug(variant) == wanted);
        let seed = || {
            let of =
                |variant: &&String| study::seed_of(variant).is_some_and(|(name, _)| slug(name) == wanted);
            steps().flat_map(|step| &step.variants).find(of)
        };
        return named.or_else(seed).map(|variant| of_study(site, now, variant, wanted));
    }
    let (run, wanted) = name.strip_prefix("r~")?.split_once('~')?;
    let summary = now.past.run(run)?;
    let report = record::read::<Report>(&now.known.session.store.run(&summary.run))?;
    let variants = || report.stages.iter().flat_map(|row| &row.variants);
    let variant = variants().find(|variant| slug(variant) == wanted)?.clone();
    Some(of_report(site, now, &report, &variant))
}

fn title<'a>(variant: &'a str, study: &'a str) -> &'a str {
    if variant.is_empty() { study } else { variant }
}

fn of_study(site: &Site, now: &Now, variant: &str, wanted: &str) -> Value {
    let known = &now.known;
    let (mut stages, mut series, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
    let steps = known.session.graph.steps.iter().enumerate();
    for (i, step) in steps.filter(|(_, step)| step.variants.iter().any(|v| v == variant)) {
        let tasks = known.tasks(i);
        let action = tasks.first().map(|(task, _)| &task.action);
        let results: Vec<&ActionResult> = tasks.iter().filter_map(|(_, result)| result.as_ref()).collect();
        let done = known.found().get(i).and_then(|found| found.known.as_ref());
        let made = done.map(|done| done.outputs.clone()).unwrap_or_default();
        let files = step.outputs.iter().map(|output| (output.name.clone(), output.file.clone())).collect();
        stages.push(json!({
            "stage": step.stage, "step": i, "name": format!("step/{}", slug(&step.id)), "is": now.states[i].is,
            "program": action.map(|action| action.template.join(" ")),
            "program_digest": action.map(|action| action.program.hex()),
            "params": action.map(|action| action.params.clone()).unwrap_or_default(),
            "inputs": action.map(|action| action.inputs.clone()).unwrap_or_default(),
            "metrics": numbers(known, i),
            "outputs": outputs(&known.session.store, &made, &files),
            "ran": results.first().map(|result| ran(result)),
        }));
        series.extend(curves(site, now, i));
        pictures.extend(sheets(&known.session.store, &step.stage, &made));
    }
    let name = title(variant, &known.session.graph.name);
    let id = format!("row/v~{wanted}");
    json!({
        "id": id, "title": name, "variant": variant, "run": null, "stages": stages, "series": series,
        "pictures": pictures,
    })
}

fn of_report(site: &Site, now: &Now, report: &Report, variant: &str) -> Value {
    let store = &now.known.session.store;
    let (mut stages, mut series, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
    let own = |row: &&StageReport| row.variants.iter().any(|v| v == variant);
    for row in report.stages.iter().filter(own) {
        let stage = row.stage.split('@').next().unwrap_or_default();
        let result = row.keys.first().and_then(|key| results::all(store, key).into_iter().next());
        let action = result.as_ref().map(|result| &result.action);
        let step = now.known.of_id(&row.stage);
        stages.push(json!({
            "stage": stage, "step": step, "name": step.map(|_| format!("step/{}", slug(&row.stage))),
            "is": past::word(&row.status),
            "program": action.map(|action| action.template.join(" ")),
            "program_digest": action.map(|action| action.program.hex()),
            "params": row.params,
            "inputs": action.map(|action| action.inputs.clone()).unwrap_or_default(),
            "metrics": row.metrics,
            "outputs": outputs(store, &row.outputs, &action.map(|a| a.outputs.clone()).unwrap_or_default()),
            "ran": result.as_ref().map(ran),
        }));
        series.extend(of_outputs(site, store, stage, &row.outputs));
        pictures.extend(sheets(store, stage, &row.outputs));
    }
    let name = report.name.as_deref().unwrap_or(&report.run);
    let name = if variant.is_empty() { name.to_string() } else { format!("{name}: {variant}") };
    json!({
        "id": of_run(&report.run, variant), "title": name, "variant": variant, "run": report.run,
        "stages": stages, "series": series, "pictures": pictures,
    })
}

/// The curves of a step: of the logs it wrote, or has written so far, and, where it runs over entries, of the numbers of those
/// that are done.
pub fn curves(site: &Site, now: &Now, i: usize) -> Vec<Value> {
    let known = &now.known;
    let (store, step) = (&known.session.store, &known.session.graph.steps[i]);
    if !step.mapped() {
        let done = known.found().get(i).and_then(|found| found.known.as_ref());
        return done.map_or_else(
            || so_far(site, now, i),
            |done| of_outputs(site, store, &step.stage, &done.outputs),
        );
    }
    // `step-00002000` is at 2000.
    let mut points: Vec<(f64, &ActionResult)> = Vec::new();
    for (task, result) in known.tasks(i) {
        let place = task.instance.as_ref().and_then(|instance| number(&instance.name));
        points.extend(place.zip(result.as_ref()));
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut curves: BTreeMap<(String, String), Curve> = BTreeMap::new();
    for (x, result) in points {
        for output in &step.outputs {
            let own = std::slice::from_ref(&output.name);
            for (name, value) in crate::cache::metrics::together(store, &result.outputs, own) {
                let curve = curves.entry((output.name.clone(), name.clone())).or_insert_with(|| Curve {
                    name,
                    x_name: "entry".into(),
                    x: Vec::new(),
                    y: Vec::new(),
                });
                curve.x.push(x);
                curve.y.push(value.as_f64());
            }
        }
    }
    curves.into_iter().map(|((output, _), curve)| of(&step.stage, &output, &curve)).collect()
}

/// The curves of a step that runs, or that was stopped or failed.
pub fn so_far(site: &Site, now: &Now, i: usize) -> Vec<Value> {
    let (store, step) = (&now.known.session.store, &now.known.session.graph.steps[i]);
    let own = now.known.tasks(i).first().map(|(task, _)| task.key);
    // A run may be about the same stage with other parameters.
    let same = |begun: &&Begun| step.mapped() || own.is_none() || begun.key == own;
    let newest = now.begun.get(&step.id);
    let begun = newest.filter(same);
    let Some(key) = begun.and_then(|begun| begun.key).or(own) else { return Vec::new() };
    // It may be done since the study was looked at.
    let done = || {
        let result = results::look(store, &key, |_| false).filter(|_| !step.mapped());
        result.map(|result| of_outputs(site, store, &step.stage, &result.outputs))
    };
    if let Some(curves) = done() {
        return curves;
    }
    let state = &now.states[i];
    let reports = matches!(state.is, Is::Running | Is::Queued | Is::Failed);
    let told = state.run.as_ref().filter(|_| reports && newest.is_none());
    let log = begun.map(|begun| begun.log.clone()).or(told.map(|run| store.log(run, &step.id)));
    let events = log.map(|log| log.with_extension("events"));
    let curves = site.growing.curves(store, Some(&key), events.as_deref());
    // Or while its files were looked for.
    if curves.is_empty()
        && let Some(curves) = done()
    {
        return curves;
    }
    let output = |path: &Path| {
        let file = path.file_name().unwrap_or_default();
        let own = step.outputs.iter().find(|output| file == output.file.as_str());
        own.map_or_else(|| file.to_string_lossy().into_owned(), |output| output.name.clone())
    };
    curves.iter().map(|(path, curve)| of(&step.stage, &output(path), curve)).collect()
}

/// The last number in a name.
fn number(name: &str) -> Option<f64> {
    let end = name.rfind(|c: char| c.is_ascii_digit())? + 1;
    let begin = name[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8));
    name[begin..end].parse().ok()
}

/// A curve as the page is told.
pub fn of(stage: &str, output: &str, curve: &Curve) -> Value {
    json!({
        "stage": stage, "output": output, "name": curve.name, "x_name": curve.x_name, "x": curve.x, "y": curve.y,
    })
}

fn of_outputs(site: &Site, store: &Store, stage: &str, made: &NameMap<Produced>) -> Vec<Value> {
    made.iter().flat_map(|(output, produced)| of_output(site, store, stage, output, produced)).collect()
}

fn of_output(site: &Site, store: &Store, stage: &str, output: &str, produced: &Produced) -> Vec<Value> {
    if produced.digest.kind != Kind::File || produced.bytes > LARGEST || !there(store, &produced.digest) {
        return Vec::new();
    }
    let path = store.place(&produced.digest);
    if Form::of(&path) != Form::JsonLines {
        return Vec::new();
    }
    site.curves.of(&produced.digest, &path).iter().map(|curve| of(stage, output, curve)).collect()
}

/// What is to be seen in the outputs of a stage: one sheet for each.
fn sheets(store: &Store, stage: &str, made: &NameMap<Produced>) -> Vec<Value> {
    let of_output = |(output, produced): (&String, &Produced)| {
        let (label, grid, count) = match produced.digest.kind {
            Kind::Tree => of_folder(store, &produced.digest)?,
            _ => sheet(store, output, &produced.digest)?,
        };
        Some(json!({ "stage": stage, "output": output, "label": label, "grid": grid, "count": count }))
    };
    made.iter().filter_map(of_output).collect()
}

fn of_folder(store: &Store, folder: &Digest) -> Option<(String, String, usize)> {
    let manifest = store.listed(folder)?;
    let files = || {
        manifest.0.iter().filter_map(|entry| match &entry.item {
            Item::File(digest, _) => Some((entry.path.as_path(), digest)),
            _ => None,
        })
    };
    let ends = |path: &Path, endings: &[&str]| {
        path.extension().is_some_and(|ending| endings.iter().any(|known| ending.eq_ignore_ascii_case(known)))
    };
    let named = |path: &Path| store::name::text(path.as_os_str());
    let archive = files().filter(|(path, _)| ends(path, &["npz"])).take(4);
    if let Some(found) = archive.into_iter().find_map(|(path, digest)| sheet(store, &named(path), digest)) {
        return Some(found);
    }
    let images = || files().filter(|(path, _)| ends(path, &["png", "jpg", "jpeg", "webp", "gif"]));
    let (path, digest) = images().next()?;
    let (label, url, _) = sheet(store, &named(path), digest)?;
    Some((label, url, images().count()))
}

fn sheet(store: &Store, label: &str, digest: &Digest) -> Option<(String, String, usize)> {
    let path = store.place(digest);
    match Form::of(&path) {
        Form::Npz => {
            let [count, ..] = picture::shape(&path)?;
            Some((label.into(), format!("picture/{}.grid.png", digest.hex()), count))
        }
        form if form.is_image() => Some((label.into(), raw(digest, form), 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stands_where_its_number_says() {
        let numbers = ["step-00002000", "x", "7", "fold-3-of-10", "é5", "a1b"].map(number);
        assert_eq!(numbers, [Some(2000.0), None, Some(7.0), Some(10.0), Some(5.0), Some(1.0)]);
    }
}

//! `pipeline diff A B`.

use super::output::{print, print_json};
use crate::action::{Action, changes};
use crate::cache::metrics::numbers;
use crate::cache::results;
use crate::cache::runs::past;
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::name_map::NameMap;
use crate::session::survey::survey;
use crate::session::{Options, Session};
use crate::text::significant;
use crate::text::table;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use store::Produced;
use store::Store;
use study::Choice;

/// What is known of a stage on one side.
#[derive(Clone, Debug, Default)]
struct Side {
    action: Option<Arc<Action>>,
    outputs: NameMap<Produced>,
}

/// One thing that is different.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Difference {
    stage: String,
    /// `parameter`, `input`, `metric`, …
    what: &'static str,
    name: String,
    a: Option<String>,
    b: Option<String>,
}

/// Compares two variants, or two past runs by their names or the beginnings of them.
pub fn diff(global: &Global, a: &str, b: &str) -> Result<()> {
    let graph = study::load(&Choice { variants: Vec::new(), ..global.choice() })?;
    let store = Store::look(&graph.root, &graph.name)?;
    let sides = [side(global, &store, a)?, side(global, &store, b)?];
    let stages: BTreeSet<&String> = sides[0].keys().chain(sides[1].keys()).collect();
    // In the order of the study, then whatever it no longer has.
    let order: Vec<&str> = graph.steps.iter().map(|s| s.stage.as_str()).collect();
    let mut stages: Vec<&String> = stages.into_iter().collect();
    stages.sort_by_key(|s| order.iter().position(|o| o == s).unwrap_or(usize::MAX));
    let empty = Side::default();
    let mut found = Vec::new();
    for stage in stages {
        let [a, b] = [0, 1].map(|i| sides[i].get(stage).unwrap_or(&empty));
        compare(&store, stage, a, b, &mut found);
    }
    if global.json {
        return print_json(&found);
    }
    if found.is_empty() {
        return print("no difference\n");
    }
    let head = ["stage", "what", "name", a, b].map(str::to_string).to_vec();
    let cell = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let rows =
        found.iter().map(|d| vec![d.stage.clone(), d.what.into(), d.name.clone(), cell(&d.a), cell(&d.b)]);
    print(&table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))
}

/// The stages of a variant as they would be now, or of a run as they were.
fn side(global: &Global, store: &Store, name: &str) -> Result<BTreeMap<String, Side>> {
    let choice = Choice { variants: vec![name.to_string()], ..global.choice() };
    match study::load(&choice) {
        Ok(_) => variant(choice),
        Err(study::Error::NoVariant { name, near }) => {
            run(store, &name)?.ok_or_else(|| Error::NeitherRunNorVariant { name, near })
        }
        Err(e) => Err(e.into()),
    }
}

fn variant(choice: Choice) -> Result<BTreeMap<String, Side>> {
    let mut session = Session::open(&Options { choice, ..Options::default() })?;
    session.find_built_programs()?;
    let found = survey(&session, |task| session.lookup(task))?;
    let sides = session.graph.steps.iter().zip(found).filter_map(|(step, found)| {
        let action = found.tasks?.first().map(|(task, _)| task.action.clone());
        Some((
            step.stage.clone(),
            Side { action, outputs: found.known.map(|k| k.outputs).unwrap_or_default() },
        ))
    });
    let sides = sides.collect();
    Ok(sides)
}

fn run(store: &Store, name: &str) -> Result<Option<BTreeMap<String, Side>>> {
    let Some(report) = past(store, name)? else { return Ok(None) };
    let sides = report.stages.into_iter().map(|row| {
        let outcome = row.keys.first().and_then(|key| results::all(store, key).into_iter().next());
        let side = Side { action: outcome.map(|o| o.action), outputs: row.outputs };
        (row.stage.split('@').next().unwrap_or_default().to_string(), side)
    });
    Ok(Some(sides.collect()))
}

fn compare(store: &Store, stage: &str, a: &Side, b: &Side, found: &mut Vec<Difference>) {
    let mut add = |what, a: NameMap<String>, b: NameMap<String>| {
        let different = changes(&a, &b).into_iter().map(|(name, a, b)| Difference {
            stage: stage.into(),
            what,
            name: name.clone(),
            a: a.cloned(),
            b: b.cloned(),
        });
        found.extend(different);
    };
    let of = |side: &Side, pick: &dyn Fn(&Action) -> NameMap<String>| {
        side.action.as_deref().map(pick).unwrap_or_default()
    };
    let short = |digest: &store::digest::Digest| digest.hex()[..12].to_string();
    let params = |x: &Action| x.params.clone();
    add("parameter", of(a, &params), of(b, &params));
    let inputs = |x: &Action| x.inputs.iter().map(|(n, d)| (n.clone(), short(d))).collect();
    add("input", of(a, &inputs), of(b, &inputs));
    let program = |x: &Action| NameMap::from([(x.template.join(" "), short(&x.program))]);
    add("program", of(a, &program), of(b, &program));
    add("metric", metrics(store, a), metrics(store, b));
}

/// The numbers in all outputs that are JSON objects.
fn metrics(store: &Store, side: &Side) -> NameMap<String> {
    let mut found = NameMap::new();
    for (output, produced) in &side.outputs {
        for (name, value) in numbers(store, produced) {
            if let Some(number) = value.as_f64() {
                found.insert(format!("{output}.{name}"), significant(number));
            }
        }
    }
    found
}

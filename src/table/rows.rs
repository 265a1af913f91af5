//! The rows of a table: what is known of each variant, of the study as it is now or of a run as it was.

use crate::cache::runs::{Report, StageReport, Status};
use crate::error::Result;
use crate::session::metrics::metrics;
use crate::session::survey::{Surveyed, survey};
use crate::session::{Session, StepOutputs};
use crate::text::day;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use study::Choice;

/// What a row is called by that is about one of the entries that a stage ran over.
pub const ENTRY: &str = "entry";

/// What is known of a stage of a row.
#[derive(Clone, Debug, Default)]
pub struct StageOfRow {
    pub stage: String,
    pub done: bool,
    pub seconds: Option<f64>,
    pub params: BTreeMap<String, String>,
    pub metrics: Map<String, Value>,
}

/// A variant, of the study or of a run.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What tells it from the others: run, date, commit; empty of the study as it is.
    pub of: Vec<(&'static str, String)>,
    /// The empty name is the study as it stands.
    pub variant: String,
    pub failed: bool,
    /// Each after those it reads from.
    pub stages: Vec<StageOfRow>,
    /// Standard deviations of metrics over so many seeds.
    pub seeds: Option<usize>,
    pub deviations: BTreeMap<String, f64>,
}

/// The variants of a study, from what the store has of it.
pub fn of_study(mut session: Session, shown_as: Option<&String>) -> Result<Vec<Row>> {
    session.find_built_programs()?;
    let found = survey(&session, |task| session.lookup(task))?;
    let rows = of_found(&session, &found, shown_as);
    let measures = |row: &Row| row.stages.iter().any(|stage| !stage.metrics.is_empty());
    Ok(if rows.iter().any(measures) { rows } else { by_entry(&session, &found, rows) })
}

/// The same where only stages over entries measure anything: a row for each entry.
fn by_entry(session: &Session, found: &[Surveyed], rows: Vec<Row>) -> Vec<Row> {
    let steps = || session.graph.steps.iter().zip(found);
    let of_row = |row: Row| {
        let mut entries: Vec<(&str, Row)> = Vec::new();
        let own = steps().filter(|(step, _)| step.each.is_some() && step.variants.contains(&row.variant));
        for (step, found) in own {
            for (task, result) in found.tasks.iter().flatten() {
                let (Some(entry), Some(result)) = (&task.instance, result) else { continue };
                let made = StepOutputs {
                    outputs: result.outputs.clone(),
                    replaced: Vec::new(),
                    actions: Vec::new(),
                };
                let numbers = metrics(session, step, &made);
                if numbers.is_empty() {
                    continue;
                }
                let known = entries.iter().position(|(name, _)| *name == entry.name);
                let place = known.unwrap_or_else(|| {
                    let mut row = row.clone();
                    row.of.push((ENTRY, entry.name.clone()));
                    entries.push((&entry.name, row));
                    entries.len() - 1
                });
                let stages = &mut entries[place].1.stages;
                for stage in stages.iter_mut().filter(|stage| stage.stage == step.stage) {
                    (stage.done, stage.seconds, stage.metrics) =
                        (true, Some(result.seconds), numbers.clone());
                }
            }
        }
        match entries.is_empty() {
            true => vec![row],
            false => entries.into_iter().map(|(_, row)| row).collect(),
        }
    };
    rows.into_iter().flat_map(of_row).collect()
}

/// The same, from what was found.
pub fn of_found(session: &Session, found: &[Surveyed], shown_as: Option<&String>) -> Vec<Row> {
    let mut stages: Vec<(Vec<String>, StageOfRow)> = Vec::new();
    for (index, (step, found)) in session.graph.steps.iter().zip(found).enumerate() {
        let tasks = found.tasks.as_deref().unwrap_or_default();
        let results = || tasks.iter().filter_map(|(_, result)| result.as_ref());
        stages.push((
            step.variants.clone(),
            StageOfRow {
                stage: step.stage.clone(),
                done: found.known.is_some(),
                seconds: results().next().map(|_| results().map(|result| result.seconds).sum()),
                params: session.programs[index].as_ref().map(|p| p.params.clone()).unwrap_or_default(),
                metrics: found.known.as_ref().map(|known| metrics(session, step, known)).unwrap_or_default(),
            },
        ));
    }
    let of: Vec<_> = shown_as.map(|name| ("run", name.clone())).into_iter().collect();
    apart(stages).into_iter().map(|row| Row { of: of.clone(), ..row }).collect()
}

/// The variants of a past run.
pub fn of_report(report: &Report, tell: bool) -> Vec<Row> {
    let stage = |row: &StageReport| StageOfRow {
        // `train@dit-s` is the stage of a variant.
        stage: row.stage.split('@').next().unwrap_or_default().into(),
        done: !matches!(row.status, Status::Failed | Status::Skipped),
        seconds: row.seconds,
        params: row.params.clone().into_iter().collect(),
        metrics: row.metrics.clone(),
    };
    let failed = |variant: &str| {
        let own = |row: &&StageReport| row.variants.iter().any(|v| v == variant);
        report.stages.iter().filter(own).any(|row| row.status == Status::Failed)
    };
    let stages = report.stages.iter().map(|row| (row.variants.clone(), stage(row)));
    let name = report.name.clone().unwrap_or_else(|| report.run.clone());
    let commit = &report.facts.commit;
    let short: String = commit.commit.iter().flat_map(|commit| commit.chars().take(8)).collect();
    let mut of = vec![("run", name), ("date", day(report.started))];
    of.push(("commit", short + if commit.changed { "+" } else { "" }));
    if !tell {
        of.clear();
    }
    let rows = apart(stages.collect()).into_iter();
    rows.map(|row| Row { failed: failed(&row.variant), of: of.clone(), ..row }).collect()
}

/// A row for each variant. What is made of all of them is no variant's, unless there is nothing else.
fn apart(stages: Vec<(Vec<String>, StageOfRow)>) -> Vec<Row> {
    let mut names: Vec<&String> = Vec::new();
    let mut own: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, (variants, _)) in stages.iter().enumerate() {
        for name in variants {
            let places = own.entry(name).or_insert_with(|| {
                names.push(name);
                Vec::new()
            });
            if places.last() != Some(&i) {
                places.push(i);
            }
        }
    }
    if names.iter().any(|name| !name.is_empty()) {
        names.retain(|name| !name.is_empty());
    }
    let row = |name: &&String| Row {
        variant: (*name).clone(),
        stages: own[name.as_str()].iter().map(|i| stages[*i].1.clone()).collect(),
        ..Row::default()
    };
    names.iter().map(row).collect()
}

/// A choice with all variants, where none is selected and there are some.
pub fn every_variant(choice: Choice) -> Choice {
    let all = Choice { variants: vec!["*".into()], ..choice.clone() };
    if choice.variants.is_empty() && study::load(&all).is_ok() { all } else { choice }
}

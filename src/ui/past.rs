//! The records of past runs: of each what its line says, and the rows of the newest. A record never changes, so each is read
//! once.

use crate::cache::facts::Facts;
use crate::cache::runs::{Report, Status};
use crate::table::rows::{Row, of_report};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use store::{Area, Store, record};

/// So many rows of past runs are kept for the table, those of the newest runs.
const ROWS: usize = 5000;

/// What is kept of a run.
#[derive(Clone)]
pub struct Summary {
    pub run: String,
    pub study: String,
    pub started: u64,
    pub finished: u64,
    name: Option<String>,
    note: Option<String>,
    result: &'static str,
    counts: BTreeMap<&'static str, usize>,
    facts: Facts,
    /// What failed, why, and where its log lies.
    pub failed: Vec<Failed>,
    /// None of an old run, where there are very many.
    pub rows: Arc<Vec<Row>>,
}

/// A stage that failed in a run.
#[derive(Clone)]
pub struct Failed {
    pub stage: String,
    pub reason: String,
    pub log: Option<PathBuf>,
}

/// All past runs of a study.
#[derive(Default)]
pub struct Past {
    /// The newest first.
    pub runs: Vec<Arc<Summary>>,
    /// The stages that failed in the last run that they were part of, with that run.
    pub failed: HashMap<String, (String, usize)>,
}

impl Past {
    /// Looks for records that are not known yet. `None` where there are none.
    pub fn look(&self, store: &Store) -> Option<Self> {
        let names = store.list(Area::Runs).into_iter().filter_map(|path| {
            let file = path.file_name()?.to_str()?.to_string();
            file.strip_suffix(".json").map(str::to_string)
        });
        let mut names: Vec<String> = names.collect();
        names.sort_by(|a, b| b.cmp(a));
        let known: HashMap<&str, &Arc<Summary>> =
            self.runs.iter().map(|summary| (summary.run.as_str(), summary)).collect();
        let there: HashSet<&str> = names.iter().map(String::as_str).collect();
        let same = known.len() == there.len() && names.iter().all(|name| known.contains_key(name.as_str()));
        if same {
            return None;
        }
        let mut runs: Vec<Arc<Summary>> =
            self.runs.iter().filter(|summary| there.contains(summary.run.as_str())).cloned().collect();
        runs.reverse();
        let mut failed = self.failed.clone();
        for name in names.iter().rev().filter(|name| !known.contains_key(name.as_str())) {
            let Some(report) = record::read::<Report>(&store.run(name)) else { continue };
            let mut summary = Summary::of(&report);
            if report.study == store.study {
                for row in report.stages.iter().filter(|row| row.status != Status::Skipped) {
                    failed.remove(&row.stage);
                }
                let places = summary.failed.iter().enumerate();
                failed.extend(places.map(|(i, stage)| (stage.stage.clone(), (report.run.clone(), i))));
            } else {
                summary.rows = Arc::default();
            }
            runs.push(Arc::new(summary));
            trim(&mut runs);
        }
        runs.sort_by(|a, b| b.run.cmp(&a.run));
        Some(Self { runs, failed })
    }

    /// How a step failed in the last run that it was part of, and which that was.
    pub fn failure(&self, stage: &str) -> Option<(&str, &Failed)> {
        let (run, place) = self.failed.get(stage)?;
        let summary = self.runs.iter().find(|summary| summary.run == *run)?;
        Some((run, summary.failed.get(*place)?))
    }

    /// A run by its id.
    pub fn run(&self, run: &str) -> Option<&Arc<Summary>> {
        self.runs.iter().find(|summary| summary.run == run)
    }
}

impl Summary {
    fn of(report: &Report) -> Self {
        let mut counts = BTreeMap::new();
        for row in &report.stages {
            *counts.entry(word(&row.status)).or_default() += 1;
        }
        let failed = report.stages.iter().filter(|row| row.status == Status::Failed);
        let failed = failed.map(|row| Failed {
            stage: row.stage.clone(),
            reason: row.reason.clone(),
            log: row.failures.iter().find_map(|failed| failed.how.log.clone()),
        });
        Self {
            run: report.run.clone(),
            study: report.study.clone(),
            started: report.started,
            finished: report.finished,
            name: report.name.clone(),
            note: report.note.clone(),
            result: report.result(),
            counts,
            facts: report.facts.clone(),
            failed: failed.collect(),
            rows: Arc::new(of_report(report, true)),
        }
    }

    /// Its line.
    pub fn line(&self) -> Value {
        let facts = &self.facts;
        json!({
            "run": self.run,
            "name": self.name,
            "note": self.note,
            "started": self.started,
            "finished": self.finished,
            "result": self.result,
            "counts": self.counts,
            "commit": facts.commit.commit,
            "changed": facts.commit.changed,
            "host": facts.machine.host,
            "gpus": facts.machine.gpus,
            "study": self.study,
            "detail": format!("run/{}", self.run),
        })
    }
}

/// Forgets the rows of the oldest runs where there are too many.
fn trim(runs: &mut [Arc<Summary>]) {
    let mut rows: usize = runs.iter().map(|summary| summary.rows.len()).sum();
    for summary in runs.iter_mut().filter(|summary| !summary.rows.is_empty()) {
        if rows <= ROWS {
            return;
        }
        rows -= summary.rows.len();
        *summary = Arc::new(Summary { rows: Arc::default(), ..(**summary).clone() });
    }
}

/// What became of a stage, in one word.
pub fn word(status: &Status) -> &'static str {
    match status {
        Status::Cached => "cached",
        Status::Restored => "restored",
        Status::Fetched => "fetched",
        Status::Ran => "ran",
        Status::Replaced => "replaced",
        Status::Failed => "failed",
        Status::Skipped => "skipped",
    }
}

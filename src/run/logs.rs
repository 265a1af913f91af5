//! Which log of a stage counts: that of its newest attempt in this study or, where another result has been taken since, that of
//! the run which made the result. A store may be shared by several studies, and results come from elsewhere.

use crate::cache::events::{RunEvent, TaskEnd};
use crate::cache::results::{self, ActionResult};
use crate::cache::runs::Report;
use crate::run::journal::Line;
use crate::text::day_and_time;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use store::{Area, Key, Store, name, record};

/// What is known of the log that counts.
#[derive(Clone, Debug)]
pub struct Counts {
    pub run: String,
    /// `None` where it is not in this store.
    pub log: Option<PathBuf>,
    /// What a person has to know of it.
    pub about: Option<String>,
}

/// The log that counts of a task, or of the build; `None` where there is neither a log nor a result.
pub fn find(store: &Store, label: &str) -> Option<Counts> {
    let own = |run: &str| study_of(store, run).is_none_or(|study| study == store.study);
    let newest = newest(store, label, own);
    let Some((outcome, since)) = result(store, label) else {
        return newest.map(|(run, log)| Counts { run, log: Some(log), about: None });
    };
    if let Some((run, log)) = newest {
        if run == outcome.run {
            return Some(Counts { run, log: Some(log), about: None });
        }
        let written = fs::metadata(&log).and_then(|meta| meta.modified()).ok();
        let taken_since = since.zip(written).is_some_and(|(since, written)| since > written);
        if !gave_result(store, &run, label) && !taken_since {
            let about = format!(
                "of its newest attempt, which gave no result; the result that counts was made {}",
                made(store, &outcome)
            );
            return Some(Counts { run, log: Some(log), about: Some(about) });
        }
    }
    let log = log_of(store, &outcome, label);
    let about = Some(format!("of the result that counts, made {}", made(store, &outcome)));
    Some(Counts { run: outcome.run, log, about })
}

/// The newest log of a label, whatever study it is of, with its run.
pub fn newest(store: &Store, label: &str, which: impl Fn(&str) -> bool) -> Option<(String, PathBuf)> {
    let mut runs: Vec<String> = store.list(Area::Logs).iter().filter_map(|path| name_of(path)).collect();
    runs.sort();
    let log = |run: String| {
        let log = store.log(&run, label);
        (log.is_file() && which(&run)).then_some((run, log))
    };
    runs.into_iter().rev().find_map(log)
}

/// The study that a run was of, where that is still known.
pub fn study_of(store: &Store, run: &str) -> Option<String> {
    let recorded = || record::read::<Report>(&store.run(run)).map(|report| report.study);
    match started(store, run) {
        Some(RunEvent::RunStarted { study, .. }) => Some(study),
        _ => recorded(),
    }
}

/// What stands first in the journal of a run.
pub fn started(store: &Store, run: &str) -> Option<RunEvent> {
    events(store, run).next()
}

/// The result of a task that counts in this study, and since when.
fn result(store: &Store, label: &str) -> Option<(ActionResult, Option<SystemTime>)> {
    let last = results::last(store, label)?;
    let all = results::all(store, &last.action.key());
    let outcome = all.iter().find(|outcome| outcome.finished == last.finished).or(all.first())?;
    let since = fs::metadata(store.last(label)).and_then(|meta| meta.modified()).ok();
    Some((outcome.clone(), since))
}

/// Whether a task got a result in a run.
fn gave_result(store: &Store, run: &str, label: &str) -> bool {
    let ends = events(store, run).filter_map(|event| match event {
        RunEvent::TaskEnded { task, end } if task == label => Some(end),
        _ => None,
    });
    ends.last().is_some_and(|end| matches!(end, TaskEnd::Made { .. } | TaskEnd::Elsewhere))
}

/// Where and when a result was made.
fn made(store: &Store, outcome: &ActionResult) -> String {
    let mut text = format!("{} UTC in run {}", day_and_time(outcome.finished), outcome.run);
    if let Some(study) = study_of(store, &outcome.run).filter(|study| *study != store.study) {
        text += &format!(" of the study {study}");
    }
    if let Some(ran) = outcome.ran.as_ref().filter(|ran| !ran.machine.host.is_empty()) {
        text += &format!(" on {}", ran.machine.host);
    }
    text
}

/// The log of the attempt that made a result, where it is in this store.
fn log_of(store: &Store, outcome: &ActionResult, label: &str) -> Option<PathBuf> {
    let keys: Vec<Key> = [Some(outcome.action.key()), outcome.accepted].into_iter().flatten().collect();
    // In another study, or another variant, the stage has another name.
    let by_key = events(store, &outcome.run).find_map(|event| match event {
        RunEvent::TaskStarted { key: Some(key), log, .. } if keys.contains(&key) => {
            // Its name, in our own folder: where that lies is another path on another machine.
            Some(store.logs(&outcome.run).join(log.file_name()?))
        }
        _ => None,
    });
    by_key.or_else(|| Some(store.log(&outcome.run, label))).filter(|log| log.is_file())
}

/// The events in the journal of a run.
fn events(store: &Store, run: &str) -> impl Iterator<Item = RunEvent> {
    let lines = File::open(store.journal(run)).ok().map(|file| BufReader::new(file).lines());
    // A line of another shape is for a newer runner.
    let read = |line: String| Some(serde_json::from_str::<Line<RunEvent>>(&line).ok()?.event);
    lines.into_iter().flatten().map_while(Result::ok).filter_map(read)
}

fn name_of(path: &Path) -> Option<String> {
    Some(name::text(path.file_name()?))
}

//! `pipeline export` and `pipeline import`.

use super::output::{print, print_json};
use crate::cache::archive::{self, About, Contents, VERSION};
use crate::cache::results;
use crate::cache::runs::past;
use crate::cli::Global;
use crate::engine::stop::Stop;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::session::lockfile::LockFile;
use crate::session::survey::survey;
use crate::text::{counted, size};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use store::digest::Digest;
use store::lock;

/// Writes what the study has now, or what a past run gave, to an archive.
pub fn export(global: &Global, what: &str, path: &Path) -> Result<()> {
    let mut session = Session::open(&global.options(&[]))?;
    let contents = if what == session.graph.name { of_study(&mut session)? } else { of_run(&session, what)? };
    let sums = archive::write(&session.store, &contents, path)?;
    let packed = std::fs::metadata(path).map_or(0, |m| m.len());
    if global.json {
        return print_json(&json!({ "archive": path, "packed": packed, "holds": sums }));
    }
    let (results, files) = (counted(sums.results, "result"), counted(sums.files, "file"));
    let (path, bytes, packed) = (path.display(), size(sums.bytes), size(packed));
    print(&format!("{path}: {results}, {files}, {bytes}, packed into {packed}\n"))
}

fn of_study(session: &mut Session) -> Result<Contents> {
    session.find_built_programs()?;
    let found = survey(session, |task| session.lookup(task))?;
    let mut results = BTreeMap::new();
    let mut outputs: BTreeMap<String, BTreeMap<String, Digest>> = BTreeMap::new();
    for (step, found) in session.graph.steps.iter().zip(found) {
        let (Some(known), Some(tasks)) = (found.known, found.tasks) else {
            return Err(Error::NotDone(step.id.clone()));
        };
        outputs.insert(step.id.clone(), known.outputs.iter().map(|(n, o)| (n.clone(), o.digest)).collect());
        results.extend(tasks.into_iter().filter_map(|(task, outcome)| Some((task.label, outcome?))));
    }
    let about = About { version: VERSION, study: session.graph.name.clone(), run: None };
    Ok(Contents {
        about,
        results,
        lock: LockFile::new(outputs).text(Path::new("a lock file"))?,
        report: None,
    })
}

fn of_run(session: &Session, name: &str) -> Result<Contents> {
    let store = &session.store;
    let Some(report) = past(store, name)? else {
        let study = &session.graph.name;
        return Err(Error::NoRun { name: name.into(), study: study.clone() });
    };
    let mut results = BTreeMap::new();
    let mut outputs: BTreeMap<String, BTreeMap<String, Digest>> = BTreeMap::new();
    for row in &report.stages {
        for key in &row.keys {
            let mut all = results::all(store, key).into_iter();
            // Several results may stand under a key; of a mapped stage the row has the folder of all.
            let outcome = match row.keys.len() {
                1 => all
                    .find(|o| o.outputs == row.outputs)
                    .or_else(|| results::all(store, key).into_iter().next()),
                _ => all.next(),
            };
            let outcome =
                outcome.ok_or_else(|| Error::Gone { stage: row.stage.clone(), run: report.run.clone() })?;
            let label = if row.keys.len() == 1 {
                row.stage.clone()
            } else {
                format!("{}[{}]", row.stage, key.short())
            };
            results.insert(label, outcome);
        }
        let digests = row.outputs.iter().map(|(name, o)| (name.clone(), o.digest));
        outputs.insert(row.stage.clone(), digests.collect());
    }
    let about = About { version: VERSION, study: report.study.clone(), run: Some(report.run.clone()) };
    Ok(Contents {
        about,
        results,
        lock: LockFile::new(outputs).text(Path::new("a lock file"))?,
        report: Some(report),
    })
}

/// Takes the results of an archive into the store.
pub fn import(global: &Global, path: &Path) -> Result<()> {
    if !path.is_file() {
        return Err(Error::NoArchive(path.into()));
    }
    let session = Session::open(&global.options(&[]))?;
    session.store.writable()?;
    let stop = Stop::on_signals()?;
    let shared = lock::wait(&session.store.lock_of_store(), true, || {}, || stop.asked())?;
    let Some(_shared) = shared else { return Err(Error::Interrupted) };
    let (about, sums) = archive::read(&session.store, path)?;
    if global.json {
        return print_json(&json!({ "about": about, "holds": sums }));
    }
    let from = about.run.map(|run| format!(", run {run}")).unwrap_or_default();
    let (results, files) = (counted(sums.results, "result"), counted(sums.files, "file"));
    let (study, bytes) = (about.study, size(sums.bytes));
    print(&format!("study {study}{from}: {results}, {files}, {bytes}\n"))
}

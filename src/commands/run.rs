//! `pipeline run`.

use super::check::warn_of_arguments;
use super::output::{print, print_json, print_states, tell_left_out};
use super::table;
use crate::cache::events::RunEvent;
use crate::cache::metrics::object;
use crate::cache::results;
use crate::cache::runs::{Report, StageReport, Status};
use crate::cli::{Global, LogFormat, RunArguments};
use crate::engine::stop::Stop;
use crate::error::{Error, Result};
use crate::run::stream::Stream;
use crate::run::{Label, RunOptions, beside, build, journal, run_name};
use crate::screen::Screen;
use crate::session::Session;
use crate::session::lockfile::LockFile;
use crate::stderr;
use crate::text::{duration, significant, size, table as columns};
use serde_json::Value;
use std::collections::HashMap;
use store::lock;

/// Runs what is not cached, then prints what became of each stage, and the scores.
pub fn run(global: &Global, arguments: &RunArguments) -> Result<()> {
    let mut session = Session::open(&global.options(&arguments.stages))?;
    session.store.writable()?;
    if arguments.stages.is_empty() && !arguments.quiet {
        tell_left_out(&session.graph);
    }
    let stop = Stop::on_signals()?;
    let screen = Screen::new(arguments.quiet);
    let busy = || screen.say("waiting for a gc of the store");
    let shared = lock::wait(&session.store.lock_of_store(), true, busy, || stop.asked())?;
    let Some(_shared) = shared else { return Err(Error::Interrupted) };
    let locked = arguments.locked.then(|| LockFile::read(&global.file)).transpose()?;
    let (name, mut stream) = (run_name(), Stream::new(screen));
    let lines = arguments.log_format == LogFormat::Json;
    if lines {
        stream.listen(Box::new(print_line));
    }
    let label = Label { name: arguments.name.clone(), note: arguments.note.clone() };
    crate::run::begin(&session, &name, &label, &mut stream);
    let mut beside = Vec::new();
    beside::tell(&session, &name, &mut beside, &mut stream);
    let result = build::build(&session, &name, &mut stream, &stop)
        .and_then(|()| Ok(session.find_programs(false)?))
        .and_then(|()| {
            // What was made already needs nothing that could be missing.
            let steps = session.graph.steps.iter().enumerate().filter(|(i, _)| session.wanted[*i]);
            let new = steps.filter(|(_, step)| results::last(&session.store, &step.id).is_none());
            new.filter(|_| !arguments.quiet).for_each(|(i, _)| warn_of_arguments(&session, i));
            let jobs = global.jobs.map(|n| n as usize);
            let (keep_going, yes) = (global.keep_going, arguments.yes);
            let options = RunOptions { jobs, keep_going, yes, gpus_from_top: false };
            crate::run::run(&session, &options, &name, &stop, &mut stream)
        });
    if stream.worth_keeping() {
        beside::tell(&session, &name, &mut beside, &mut stream);
    }
    let result = crate::run::end(&session, stream, result, true);
    let report = result?;
    let printed = match global.json {
        _ if lines => Ok(()),
        true => print_json(&report),
        // Of many variants their table tells more than their scores one after another.
        false => {
            let end = table::of_run(&report).map(|table| format!("\n{table}"));
            let end = end.unwrap_or_else(|| scores(&session, &report));
            print_states(&summary(&report)).and_then(|()| print(&end))
        }
    };
    // What became of the run counts for more than whether anybody could be told.
    crate::run::verdict(&report, &stop)?;
    if let Some(locked) = locked {
        let outputs = report.stages.iter().flat_map(|row| {
            row.outputs.iter().map(|(name, output)| (row.stage.as_str(), name.as_str(), output.digest))
        });
        locked.compare(&global.file, outputs)?;
    }
    printed
}

/// Prints an event, with the time. A reader that has gone away is no reason to stop.
fn print_line(event: &RunEvent) {
    if let Ok(line) = journal::line(event) {
        let _ = print(&line);
    }
}

fn summary(report: &Report) -> Vec<Vec<String>> {
    report
        .stages
        .iter()
        .map(|row| {
            let status = match row.status {
                Status::Cached => "cached",
                Status::Restored => "restored",
                Status::Fetched => "fetched",
                Status::Ran => "ran",
                Status::Replaced => "replaced",
                Status::Failed => "FAILED",
                Status::Skipped => "skipped",
            };
            let bytes = row.outputs.values().map(|o| o.bytes).sum();
            let seconds = row.seconds.map(duration).unwrap_or_default();
            let size = if row.outputs.is_empty() { String::new() } else { size(bytes) };
            vec![row.stage.clone(), status.into(), seconds, size, row.reason.clone()]
        })
        .collect()
}

/// The numbers of every output that a stage wants shown.
fn scores(session: &Session, report: &Report) -> String {
    let mut text = String::new();
    let rows: HashMap<&str, &StageReport> =
        report.stages.iter().map(|row| (row.stage.as_str(), row)).collect();
    for step in session.graph.steps.iter().filter(|step| !step.show.is_empty()) {
        let Some(row) = rows.get(step.id.as_str()) else { continue };
        for name in &step.show {
            let Some(output) = row.outputs.get(name) else { continue };
            let file = std::fs::read(session.store.place(&output.digest)).map_err(|e| e.to_string());
            let values = match file.and_then(|bytes| object(&bytes).map_err(|e| e.to_string())) {
                Ok(values) => values,
                // The entries of a mapped stage are rows of the table.
                Err(_) if step.mapped() => continue,
                Err(why) => {
                    stderr::line(format_args!(
                        "warning: {}.{name} is shown, and is no JSON object: {why}",
                        step.id
                    ));
                    continue;
                }
            };
            text.push_str(&format!("\n{}.{name}\n", step.id));
            let rows = values.iter().filter_map(|(key, value)| {
                let shown = match value {
                    Value::Number(n) => significant(n.as_f64()?),
                    Value::String(s) => s.clone(),
                    Value::Bool(b) => b.to_string(),
                    Value::Null | Value::Array(_) | Value::Object(_) => return None,
                };
                Some(vec![format!("  {key}"), shown])
            });
            text.push_str(&columns(&rows.collect::<Vec<_>>()));
        }
    }
    text
}

//! `pipeline run`.

use super::output::{print, print_json};
use crate::cache::runs::{Fate, Report};
use crate::cli::Global;
use crate::engine::stop::Stop;
use crate::error::{Error, Result};
use crate::run::{RunOptions, build};
use crate::screen::Screen;
use crate::session::{Session, lockfile};
use crate::text::{duration, significant};
use crate::text::{size, table};
use serde_json::{Map, Value};
use store::lock;

/// Runs what is not cached, then prints what became of each stage, and the scores.
pub fn run(global: &Global, stages: &[String], yes: bool, locked: bool) -> Result<()> {
    let mut session = Session::open(&global.options(stages))?;
    let stop = Stop::on_signals()?;
    let mut screen = Screen::new(false);
    let busy = || screen.say("waiting for a gc of the store");
    let shared = lock::wait(&session.store.lock_of_store(), true, busy, || stop.asked())?;
    let Some(_shared) = shared else { return Err(Error::Interrupted) };
    let name = crate::run::run_name();
    build::build(&session, &name, &mut screen, &stop)?;
    session.find_programs(false)?;
    let jobs = global.jobs.map(|n| n as usize);
    let options = RunOptions { jobs, keep_going: global.keep_going, yes, gpus_from_top: false };
    let report = crate::run::run(&session, &options, name, &stop, screen)?;
    let printed = match global.json {
        true => print_json(&report),
        false => print(&(summary(&report) + &scores(&session, &report))),
    };
    // What became of the run counts for more than whether anybody could be told.
    crate::run::verdict(&report, &stop)?;
    if locked {
        let outputs = report.stages.iter().flat_map(|row| {
            row.outputs.iter().map(|(name, output)| (row.stage.as_str(), name.as_str(), output.digest))
        });
        lockfile::compare(&global.file, outputs)?;
    }
    printed
}

fn summary(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .stages
        .iter()
        .map(|row| {
            let fate = match row.fate {
                Fate::Cached => "cached",
                Fate::Restored => "restored",
                Fate::Fetched => "fetched",
                Fate::Ran => "ran",
                Fate::Replaced => "replaced",
                Fate::Failed => "FAILED",
                Fate::Skipped => "skipped",
            };
            let bytes = row.outputs.values().map(|o| o.bytes).sum();
            let seconds = row.seconds.map(duration).unwrap_or_default();
            let size = if row.outputs.is_empty() { String::new() } else { size(bytes) };
            vec![row.stage.clone(), fate.into(), seconds, size, row.reason.clone()]
        })
        .collect();
    table(&rows)
}

/// The numbers of every output that a stage wants shown.
fn scores(session: &Session, report: &Report) -> String {
    let mut text = String::new();
    for step in &session.graph.steps {
        let Some(row) = report.stages.iter().find(|r| r.stage == step.id) else { continue };
        for name in &step.show {
            let Some(output) = row.outputs.get(name) else { continue };
            let file = std::fs::read(session.store.place(&output.digest)).ok();
            let values = file.and_then(|bytes| serde_json::from_slice::<Map<String, Value>>(&bytes).ok());
            let Some(values) = values else { continue };
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
            text.push_str(&table(&rows.collect::<Vec<_>>()));
        }
    }
    text
}

//! `pipeline run`.

use super::{print, print_json, size, table};
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::run::report::{Fate, Report};
use crate::run::screen::{Screen, duration, significant};
use crate::run::stop::Stop;
use crate::run::{RunOptions, build};
use crate::session::Session;
use crate::store::lock;
use serde_json::{Map, Value};

/// Runs what is not cached, then prints what became of each stage, and the scores.
pub fn run(global: &Global, stages: &[String], yes: bool, locked: bool) -> Result<()> {
    let mut session = Session::open(&global.options(stages))?;
    let stop = Stop::on_signals()?;
    let mut screen = Screen::new(false);
    let busy = || screen.say("waiting for a gc of the store");
    let shared = lock::wait(&session.store.at("locks/store"), true, busy, || stop.asked())?;
    let Some(_shared) = shared else { return Err(Error::Interrupted) };
    let name = run_name();
    let result = build::build(&session, &name, &mut screen, &stop)
        .and_then(|()| session.find_programs(false))
        .and_then(|()| {
            let jobs = global.jobs.map(|n| n as usize);
            let options = RunOptions { jobs, keep_going: global.keep_going, yes, gpus_from_top: false };
            crate::run::run(&session, &options, name, &stop, screen)
        });
    session.store.stats.save();
    let report = result?;
    let printed = match global.json {
        true => print_json(&report),
        false => print(&(summary(&report) + &scores(&session, &report))),
    };
    // What became of the run counts for more than whether anybody could be told.
    report.verdict(&stop)?;
    if locked {
        let outputs = report.stages.iter().flat_map(|row| {
            row.outputs.iter().map(|(name, output)| (row.stage.as_str(), name.as_str(), output.digest))
        });
        super::lock::compare(global, outputs)?;
    }
    printed
}

/// `20261122T201700.123-4567`: sorts by time, and no two runs share it.
pub fn run_name() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
    let (year, month, day) = date(days as i64);
    let (h, m, s) = (seconds / 3600, seconds % 3600 / 60, seconds % 60);
    let (millis, pid) = (now.subsec_millis(), std::process::id());
    format!("{year:04}{month:02}{day:02}T{h:02}{m:02}{s:02}.{millis:03}-{pid}")
}

/// Year, month and day of a day counted from 1970 in the Gregorian calendar.
fn date(days: i64) -> (i64, i64, i64) {
    // Years that begin in March put the leap day last; 146,097 days are 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let first = (153 * month + 2) / 5;
    let calendar_month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(calendar_month <= 2), calendar_month, day - first + 1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(
            [0, 59, 11_016, 20_779].map(date),
            [(1970, 1, 1), (1970, 3, 1), (2000, 2, 29), (2026, 11, 22)]
        );
    }
}

//! Running a study: what is cached is restored, the rest runs as its inputs become known.

pub mod build;
mod commit;
mod driver;
mod hear;
mod job;
mod look;
mod machine;
mod options;
pub mod out;
mod rows;
mod scheduler;
pub mod stream;
mod tail;
mod threads;
mod transfer;
pub mod watch;
mod worker;

use crate::cache::events::RunEvent;
use crate::cache::failure::Failure;
use crate::cache::results;
use crate::cache::runs::{Fate, Report};
use crate::engine::stop::Stop;
use crate::error::{Error, Result};
use crate::session::Session;
use driver::Driver;
use store::record;
use stream::Stream;

pub use options::RunOptions;

/// Tells that a run begins.
pub fn begin(session: &Session, run: &str, stream: &mut Stream) {
    let wanted = session.graph.steps.iter().zip(&session.wanted).filter(|(_, wanted)| **wanted);
    stream.emit(RunEvent::RunStarted {
        run: run.into(),
        study: session.graph.name.clone(),
        started: results::now(),
        stages: wanted.map(|(step, _)| step.id.clone()).collect(),
    });
}

/// Runs all wanted steps of a session.
pub fn run(
    session: &Session,
    options: &RunOptions,
    run: &str,
    stop: &Stop,
    stream: &mut Stream,
) -> Result<()> {
    Driver::new(session, options, run, stop, stream)?.finish()
}

/// Tells that a run has ended, and keeps its record where more happened than looking.
pub fn end(session: &Session, mut stream: Stream, result: Result<()>) -> Result<Report> {
    let error = result.as_ref().err().map(ToString::to_string);
    stream.emit(RunEvent::RunEnded { finished: results::now(), error });
    result?;
    let report = stream.report();
    if report.stages.iter().any(|r| !matches!(r.fate, Fate::Cached | Fate::Replaced)) {
        record::write(&session.store.at("runs").join(format!("{}.json", report.run)), &report, false)?;
    }
    Ok(report)
}

/// What the exit code of a run is made from.
pub fn verdict(report: &Report, stop: &Stop) -> Result<()> {
    if stop.asked() {
        return Err(Error::Interrupted);
    }
    let failed = || report.stages.iter().filter(|r| r.fate == Fate::Failed);
    let stages: Vec<String> = failed().map(|row| row.stage.clone()).collect();
    let later = |row: &crate::cache::runs::Row| {
        !row.failures.is_empty() && row.failures.iter().all(|f| f.how.failure == Failure::TryAgain)
    };
    match stages.is_empty() {
        true => Ok(()),
        // To try again later is worth it only where nothing failed for good.
        false if failed().all(later) => Err(Error::TryAgain(stages)),
        false => Err(Error::Failed(stages)),
    }
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

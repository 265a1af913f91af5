//! Running a study: what is cached is restored, the rest runs as its inputs become known.

pub mod build;
mod consent;
pub mod out;
mod remake;
mod schedule;
mod settle;
mod slots;
mod state;
mod transfer;
pub mod watch;
mod worker;

use crate::cache::results;
use crate::cache::runs::{Fate, Report, Row};
use crate::engine::stop::Stop;
use crate::error::{Error, Result};
use crate::screen::Screen;
use crate::session::Session;
use jiff::Timestamp;
use state::Runner;
use std::sync::Arc;
use store::record;

pub use state::RunOptions;

/// Runs all wanted steps of a session.
pub fn run(
    session: &Session,
    options: &RunOptions,
    run: String,
    stop: &Arc<Stop>,
    screen: Screen,
) -> Result<Report> {
    let started = results::now();
    let stages = Runner::new(session, options, run.clone(), stop, screen)?.finish()?;
    let report = Report { run, study: session.graph.name.clone(), started, finished: results::now(), stages };
    if report.stages.iter().any(|r| !matches!(r.fate, Fate::Cached | Fate::Replaced)) {
        record::write(&session.store.run(&report.run), &report, false)?;
    }
    Ok(report)
}

/// What the exit code of a run is made from.
pub fn verdict(report: &Report, stop: &Stop) -> Result<()> {
    if stop.asked() {
        return Err(Error::Interrupted);
    }
    let failed: Vec<&Row> = report.stages.iter().filter(|r| r.fate == Fate::Failed).collect();
    match failed.as_slice() {
        // Without a failure before it, nothing may be left out.
        [] => match report.stages.iter().filter(|r| r.fate == Fate::Skipped).collect::<Vec<_>>().as_slice() {
            [] => Ok(()),
            left => Err(Error::NotAtHand(left.iter().map(|r| r.stage.clone()).collect())),
        },
        [one] if one.reason.starts_with(worker::TRY_AGAIN) => Err(Error::TryAgain(one.stage.clone())),
        many => Err(Error::Failed(many.iter().map(|r| r.stage.clone()).collect())),
    }
}

/// `20261122T201700.123-4567`: sorts by time, and no two runs share it.
pub fn run_name() -> String {
    format!("{}-{}", stamp(Timestamp::now()), std::process::id())
}

fn stamp(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%S%.3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let day = |day: i64| stamp(Timestamp::from_second(day * 86_400).unwrap());
        assert_eq!(
            [0, 59, 11_016, 20_779].map(day),
            ["19700101", "19700301", "20000229", "20261122"].map(|date| format!("{date}T000000.000"))
        );
        assert_eq!(stamp(Timestamp::from_millisecond(1_795_378_620_007).unwrap()), "20261122T201700.007");
    }
}

//! Running a study: what is cached is restored, the rest runs as its inputs become known.

pub mod beside;
pub mod build;
mod commit;
mod driver;
mod far;
mod hear;
mod job;
pub mod journal;
pub mod logs;
mod look;
mod machine;
mod on_end;
mod options;
pub mod out;
mod places;
mod rows;
mod scheduler;
mod spent;
pub mod stream;
mod tail;
mod threads;
mod transfer;
pub mod watch;
mod worker;

use crate::cache::events::RunEvent;
use crate::cache::failure::Failure;
use crate::cache::results;
use crate::cache::runs::{Report, StageReport, Status};
use crate::engine::stop::Stop;
use crate::error::{Error, Result};
use crate::session::Session;
use driver::Driver;
use jiff::Timestamp;
use store::{process, record};
use stream::Stream;
use study::hidden;

pub use machine::Machine;
pub use options::RunOptions;

/// What a person says of a run.
#[derive(Clone, Debug, Default)]
pub struct Label {
    pub name: Option<String>,
    pub note: Option<String>,
}

/// Tells that a run begins.
pub fn begin(session: &Session, run: &str, label: &Label, stream: &mut Stream) {
    let wanted = session.graph.steps.iter().zip(&session.wanted).filter(|(_, wanted)| **wanted);
    stream.listen(journal::keep(session.store.journal(run)));
    stream.emit(RunEvent::RunStarted {
        run: run.into(),
        study: session.graph.name.clone(),
        started: results::now(),
        stages: wanted.map(|(step, _)| step.id.clone()).collect(),
        name: label.name.clone(),
        note: label.note.as_deref().map(|note| hidden(note).into_owned()),
        asked: session.asked.clone(),
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

/// Tells that a run has ended, and keeps its record where more happened than looking. With `tell` the study's own command
/// is called then, where there is one.
pub fn end(session: &Session, mut stream: Stream, result: Result<()>, tell: bool) -> Result<Report> {
    let error = result.as_ref().err().map(|e| hidden(&e.to_string()).into_owned());
    let kept = stream.worth_keeping();
    let facts = kept.then(|| session.facts().clone());
    stream.emit(RunEvent::RunEnded { finished: results::now(), facts, error });
    let report = stream.report();
    if kept {
        record::write(&session.store.run(&report.run), &report, false)?;
    }
    if kept && tell {
        on_end::call(session, &report);
    }
    result.map(|()| report)
}

/// What the exit code of a run is made from.
pub fn verdict(report: &Report, stop: &Stop) -> Result<()> {
    if stop.asked() {
        return Err(Error::Interrupted);
    }
    let failed = || report.stages.iter().filter(|r| r.status == Status::Failed);
    let stages: Vec<String> = failed().map(|row| row.stage.clone()).collect();
    let later = |row: &StageReport| {
        !row.failures.is_empty() && row.failures.iter().all(|f| f.how.failure == Failure::TryAgain)
    };
    // Without a failure before it, nothing may be left out.
    let left = report.stages.iter().filter(|r| stages.is_empty() && r.status == Status::Skipped);
    let left: Vec<String> = left.map(|row| row.stage.clone()).collect();
    match stages.is_empty() {
        true if left.is_empty() => Ok(()),
        true => Err(Error::NotAtHand(left)),
        // To try again later is worth it only where nothing failed for good.
        false if failed().all(later) => Err(Error::TryAgain(stages)),
        false => Err(Error::Failed(stages)),
    }
}

/// `20261122T201700.123-0c1d2e3f`: sorts by time, and no two runs share it, wherever they are.
pub fn run_name() -> String {
    format!("{}-{}", stamp(Timestamp::now()), process::token())
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

//! Running a study: what is cached is restored, the rest runs as its inputs become known.

pub mod attempt;
pub mod build;
mod consent;
pub mod engine;
pub mod events;
mod gauge;
pub mod publish;
mod remake;
pub mod report;
mod schedule;
pub mod screen;
mod settle;
pub mod slots;
pub mod slurm;
pub mod steady;
pub mod stop;
pub mod supervise;
mod transfer;
pub mod watch;
pub mod worker;

use crate::error::Result;
use crate::run::report::{Fate, Report};
use crate::run::screen::Screen;
use crate::run::stop::Stop;
use crate::session::{Session, Unit};
use crate::store::{record, results};
use std::sync::Arc;

/// This many last lines of the log of a failed stage are shown.
const LOG_LINES: usize = 20;

/// How a run goes about it.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Stages that run at the same time, at most.
    pub jobs: Option<usize>,
    /// Long stages run again without asking when only their program changed.
    pub yes: bool,
    /// After a failure, everything that does not need the failed stage still runs.
    pub keep_going: bool,
    /// GPUs are handed out from the highest number down, out of the way of a run beside.
    pub gpus_from_top: bool,
}

/// Why a stage has to run.
pub fn reasons(session: &Session, unit: &Unit) -> Vec<String> {
    if session.forced.contains(&unit.step) {
        return vec!["forced".into()];
    }
    let Some(last) = session.store.last(&unit.label) else {
        return vec!["it never ran".into()];
    };
    let words = unit.action.differences(&last.action, |digest| session.store.manifest(digest));
    if words.is_empty() {
        vec!["its outputs are no longer in the store, or were changed there".into()]
    } else {
        words
    }
}

/// Shows the end of a log and where the whole of it is.
pub fn show_log(screen: &Screen, log: &std::path::Path) {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(16_384)..]).into_owned();
    let lines: Vec<_> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        screen.say(&format!("  | {line}"));
    }
    screen.say(&format!("  the whole log: {}", log.display()));
}

/// Runs all wanted steps of a session.
pub fn run(
    session: &Session,
    options: &RunOptions,
    run: String,
    stop: &Arc<Stop>,
    screen: Screen,
) -> Result<Report> {
    let started = results::now();
    let stages = schedule::Runner::new(session, options, run.clone(), stop, screen)?.finish()?;
    let report = Report { run, study: session.graph.name.clone(), started, finished: results::now(), stages };
    if report.stages.iter().any(|r| !matches!(r.fate, Fate::Cached | Fate::Replaced)) {
        record::write(&session.store.at("runs").join(format!("{}.json", report.run)), &report, false)?;
    }
    Ok(report)
}

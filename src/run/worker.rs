//! One attempt at a task: from the lock of its action to its result.

use crate::cache::failure::{Failure, TRY_AGAIN};
use crate::cache::results::{self, ActionResult};
use crate::cache::runs::AttemptReport;
use crate::engine::attempt::Attempt;
use crate::engine::contract::{End, Engine, Work};
use crate::engine::slurm::{self, SLURM};
use crate::engine::supervise::NOT_STARTED;
use crate::engine::usage::{self, Usage};
use crate::engine::{self, ranks, steady};
use crate::run::commit::{commit, written};
use crate::run::job::{Job, Unmade, WorkerEvent};
use crate::run::places::Places;
use crate::text::shown;
use std::cell::Cell;
use std::path::PathBuf;
use std::time::Instant;
use store::link;

/// Waits for the action's lock, takes the result if somebody else made it meanwhile, else makes it.
pub fn work(job: &Job) -> Result<ActionResult, Unmade> {
    let (store, key) = (&job.session.store, &job.task.key);
    let waited = Cell::new(false);
    let busy = || {
        waited.set(true);
        job.say("waiting for another runner that does the same".into());
    };
    let lock = store.lock(key, busy, || job.stop.asked())?;
    let Some(lock) = lock.filter(|_| !job.stop.asked()) else { return Err(Failure::Stopped.into()) };
    let forced = job.session.forced.contains(&job.task.step);
    // It was looked up before; only what came since can make a difference.
    let changed = (waited.get() && !forced) || results::newest(store, key) != job.seen;
    if changed && let Some(outcome) = results::lookup(store, key)? {
        return Ok(outcome);
    }
    let parts = steady::parts(job.session, &job.task)?;
    let (engine, attempt) = prepare(job)?;
    let places = Places::of(job.session, &job.task, &attempt);
    (job.tell)(WorkerEvent::Follow { events: attempt.events.clone(), log: attempt.log.clone(), places });
    let step = &job.session.graph.steps[job.task.step];
    let several = step.processes.map(|processes| format!("{processes} processes of "));
    job.say(several.unwrap_or_default() + &shown(&attempt.words));
    let (started, clock) = (results::now(), Instant::now());
    // Before it runs: what it runs and reads may be edited meanwhile.
    job.session.facts();
    let end = engine.execute(&Work {
        session: job.session,
        task: &job.task,
        attempt: &attempt,
        parts: &parts,
        lock: &lock,
        gpus: &job.gpus,
        stop: job.stop,
        say: &|text| job.say(text),
    })?;
    let usage = usage::take(&attempt.events).unwrap_or_default();
    let seconds = if let End::Success(seconds) = end { seconds } else { clock.elapsed().as_secs_f64() };
    let told = |failure: Option<&Failure>| {
        let report = report(job, &usage, started, seconds, &end, failure.cloned());
        (job.tell)(WorkerEvent::Attempted(Box::new(report)));
    };
    let unmade = match end.clone() {
        End::Success(seconds) => match commit(job, &attempt, &parts, seconds, &usage) {
            Err(unmade) => unmade,
            made => {
                told(None);
                return made;
            }
        },
        End::Stale(changes) => Unmade::Stale(changes),
        End::Disturbed(parts) => Failure::Changed { parts }.into(),
        End::Stopped => Failure::Stopped.into(),
        End::Exit(TRY_AGAIN) => Failure::TryAgain.into(),
        End::Exit(NOT_STARTED) => Failure::NotStarted.into(),
        End::Exit(code) => Failure::Exit { code }.into(),
        End::Signal(signal) => Failure::Signal { signal }.into(),
        End::Timeout => {
            let limit = job.session.graph.steps[job.task.step].timeout;
            Failure::Timeout { seconds: limit.map(|limit| limit.as_secs_f64()) }.into()
        }
    };
    let unmade = give_up(job, &attempt, unmade)?;
    if let Unmade::Failed(failed) = &unmade {
        told(Some(&failed.failure));
    }
    Err(unmade)
}

/// What is written down of an attempt.
fn report(
    job: &Job,
    usage: &Usage,
    started: u64,
    seconds: f64,
    end: &End,
    failure: Option<Failure>,
) -> AttemptReport {
    let here = || job.session.facts().machine.host.clone();
    AttemptReport {
        task: job.task.label.clone(),
        attempt: job.attempt,
        started,
        seconds,
        exit: match end {
            End::Success(_) | End::Disturbed(_) => Some(0),
            End::Exit(code) => Some(*code),
            End::Signal(_) | End::Timeout | End::Stopped | End::Stale(_) => None,
        },
        failure,
        peak_memory: Some(usage.peak_memory).filter(|bytes| *bytes > 0),
        gpus: job.gpus.clone(),
        engine: job.session.graph.steps[job.task.step].engine.name().into(),
        host: usage.machine.as_ref().map_or_else(here, |machine| machine.host.clone()),
    }
}

/// The folders of an attempt, and who executes it. A job that a killed runner left on a cluster goes on, wherever the
/// task would run now.
fn prepare(job: &Job) -> Result<(&'static dyn Engine, Attempt), Unmade> {
    if let Some(attempt) = slurm::left(job.session, &job.task)? {
        attempt.show_as(&job.log)?;
        job.say("goes on with the job of an earlier run".into());
        return Ok((&*SLURM, attempt));
    }
    let engine = engine::of(&job.session.graph.steps[job.task.step]);
    Ok((engine, Attempt::prepare(job.session, &job.task, job.log.clone())?))
}

/// Puts what an attempt wrote, and what could not be taken in, where no other attempt removes it: it may be the work of
/// hours. Returns the place, if there is something.
fn put_by(job: &Job, attempt: &Attempt) -> Result<Option<PathBuf>, Unmade> {
    slurm::forget(&attempt.folder);
    if written(attempt).is_ok_and(|written| written.is_empty()) {
        return Ok(None);
    }
    let store = &job.session.store;
    let place = store.refused(job.run, &job.task.label);
    link::remove(&place)?;
    link::place(&attempt.out, &place)?;
    let root = store.path.parent().unwrap_or(&store.path);
    Ok(Some(place.strip_prefix(root).unwrap_or(&place).into()))
}

/// Removes what an attempt left that gave no result, as far as nobody may want to look at it.
fn give_up(job: &Job, attempt: &Attempt, unmade: Unmade) -> Result<Unmade, Unmade> {
    let Unmade::Failed(mut failed) = unmade else {
        link::remove(&attempt.folder)?;
        return Ok(unmade);
    };
    let store = &job.session.store;
    if failed.failure.has_log() {
        let of_rank =
            matches!(failed.failure, Failure::Exit { .. } | Failure::Signal { .. } | Failure::TryAgain);
        failed.rank = ranks::failed(&attempt.folder).filter(|_| of_rank).map(|failed| failed.rank);
        failed.log = Some(ranks::of_rank(&job.log, failed.rank.unwrap_or(0)));
    }
    match failed.failure {
        Failure::Changed { .. } => slurm::forget(&attempt.folder),
        Failure::NoOutput { ref mut place, .. } => *place = put_by(job, attempt)?,
        Failure::Error { ref mut text } => {
            if let Some(place) = put_by(job, attempt)? {
                *text += &format!("; what it wrote lies in {}", place.display());
            }
        }
        _ => {
            let ended = !matches!(failed.failure, Failure::Stopped);
            failed.full = (ended && store.full()).then(|| store.path.clone());
            link::remove(&attempt.folder)?;
        }
    }
    Ok(Unmade::Failed(failed))
}

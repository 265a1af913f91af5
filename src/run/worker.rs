//! One attempt at a task: from the lock of its action to its result. What a cluster does is prepared here, and fetched when
//! it is done.

use crate::cache::failure::{Failure, TRY_AGAIN};
use crate::cache::results::{self, ActionResult};
use crate::cache::runs::AttemptReport;
use crate::engine::attempt::Attempt;
use crate::engine::batch::waiting::Stand;
use crate::engine::batch::{self, Left};
use crate::engine::contract::{End, Work};
use crate::engine::steady::{self, Part};
use crate::engine::supervise::NOT_STARTED;
use crate::engine::usage::{self, Usage};
use crate::engine::{self, local, ranks};
use crate::run::commit::{commit, written};
use crate::run::job::{Job, Unmade, WorkerEvent};
use crate::run::places;
use crate::run::spent;
use crate::text::shown_briefly;
use std::cell::Cell;
use std::path::PathBuf;
use store::{link, lock};

/// What is said of a task that another runner does.
const BUSY: &str = "waiting for another runner that does the same";

/// What came of a task that was tried.
pub enum Tried {
    Made(Box<ActionResult>),
    /// It is, or is to be, a job of a cluster, or somebody else does it.
    Far(Stand),
}

/// Makes the result of a task, or takes that which somebody else made meanwhile; what a cluster is to do is prepared.
pub fn work(job: &Job) -> Result<Tried, Unmade> {
    let (store, key) = (&job.session.store, &job.task.key);
    let step = &job.session.graph.steps[job.task.step];
    let far = engine::is_far(step);
    let waited = Cell::new(false);
    let busy = || {
        waited.set(true);
        job.say(BUSY.into());
    };
    let lock = match far {
        // A thread that waits for another runner is one that no other task has.
        true => {
            (job.claim)()?;
            match lock::attempt(&store.lock_of(key), false)? {
                Some(lock) => Some(lock),
                None => {
                    busy();
                    return Ok(Tried::Far(Stand::Busy(store.lock_of(key))));
                }
            }
        }
        false => store.lock(key, busy, || job.stop.asked())?,
    };
    let Some(lock) = lock.filter(|_| !job.stop.asked()) else { return Err(Failure::Stopped.into()) };
    let forced = job.session.forced.contains(&job.task.step);
    // It was looked up before; only what came since can make a difference.
    let changed = (waited.get() && !forced) || results::newest(store, key) != job.seen;
    if changed && let Some(outcome) = results::lookup(store, key)? {
        return Ok(Tried::Made(Box::new(outcome)));
    }
    let parts = steady::parts(job.session, &job.task)?;
    // A job that a killed runner left on a cluster goes on, wherever the task would run now.
    match batch::left(job.session, &job.task, job.run, job.claim)? {
        Left::Nothing => {}
        Left::Busy(lock) => {
            job.say(BUSY.into());
            return Ok(Tried::Far(Stand::Busy(lock)));
        }
        Left::Job(attempt) => {
            attempt.show_as(&job.log)?;
            job.say("goes on with the job of an earlier run".into());
            return Ok(Tried::Far(Stand::Left(*attempt)));
        }
    }
    if far {
        let stale = steady::changed(&parts, &store.stats);
        if !stale.is_empty() {
            return Err(Unmade::Stale(stale));
        }
    }
    spent::resume(store, key);
    let attempt = Attempt::prepare(job.session, &job.task, job.log.clone())?;
    let several = step.processes.map(|processes| format!("{processes} processes of "));
    job.say(several.unwrap_or_default() + &shown_briefly(&attempt.words));
    // Before it runs: what it runs and reads may be edited meanwhile.
    job.session.facts();
    if far {
        batch::prepare(job.session, &job.task, &attempt, &parts, job.run)?;
        return Ok(Tried::Far(Stand::New(attempt)));
    }
    let places = places::kept(job.session, &job.task, &attempt);
    (job.tell)(WorkerEvent::Follow { events: attempt.events.clone(), log: attempt.log.clone(), places });
    let started = job.stop.clock();
    let end = local::execute(&Work {
        session: job.session,
        task: &job.task,
        attempt: &attempt,
        parts: &parts,
        lock: &lock,
        gpus: &job.gpus,
        stop: job.stop,
    })?;
    let ran = (job.stop.clock() - started).as_secs_f64();
    conclude(job, &attempt, &parts, end, Some(ran)).map(|made| Tried::Made(Box::new(made)))
}

/// Makes the result of a task whose job is over.
pub fn fetch(job: &Job, attempt: &Attempt, end: End) -> Result<ActionResult, Unmade> {
    // Whoever looks for the job at the same time holds it for a moment.
    let lock = job.session.store.lock(&job.task.key, || (), || false)?;
    let parts = steady::parts(job.session, &job.task)?;
    let made = conclude(job, attempt, &parts, end, batch::ran(&attempt.folder));
    drop(lock);
    made
}

/// What the end of an attempt comes to, of which the stage ran for so many seconds; the rest it waited.
fn conclude(
    job: &Job,
    attempt: &Attempt,
    parts: &[Part],
    end: End,
    ran: Option<f64>,
) -> Result<ActionResult, Unmade> {
    let usage = usage::take(&attempt.events).unwrap_or_default();
    let seconds = match end {
        End::Success(seconds) => seconds,
        _ => ran.unwrap_or_else(|| job.begun.clock.elapsed().as_secs_f64()),
    };
    let told = |failure: Option<&Failure>| {
        let report = report(job, &usage, seconds, &end, failure.cloned());
        (job.tell)(WorkerEvent::Attempted(Box::new(report)));
    };
    let unmade = match end.clone() {
        End::Success(seconds) => match commit(job, attempt, parts, seconds, &usage) {
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
    let unmade = give_up(job, attempt, unmade)?;
    if let Unmade::Failed(failed) = &unmade {
        if let Some(ran) = ran.filter(|_| !matches!(end, End::Exit(NOT_STARTED))) {
            spent::add(&job.session.store, &job.task.key, ran);
        }
        told(Some(&failed.failure));
    }
    Err(unmade)
}

/// What is written down of an attempt.
fn report(job: &Job, usage: &Usage, seconds: f64, end: &End, failure: Option<Failure>) -> AttemptReport {
    let here = || job.session.facts().machine.host.clone();
    AttemptReport {
        task: job.task.label.clone(),
        attempt: job.attempt,
        started: job.begun.at,
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

/// Puts what an attempt wrote, and what could not be taken in, where no other attempt removes it: it may be the work of
/// hours. Returns the place, if there is something.
fn put_by(job: &Job, attempt: &Attempt) -> Result<Option<PathBuf>, Unmade> {
    batch::forget(&attempt.folder);
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
        Failure::Changed { .. } => batch::forget(&attempt.folder),
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

//! Running a study: what is cached is restored, the rest runs as its inputs become known.

pub mod attempt;
pub mod build;
pub mod events;
pub mod screen;
pub mod slots;
pub mod supervise;
pub mod worker;

use crate::error::{Error, Result};
use crate::key::Action;
use crate::run::events::Events;
use crate::run::screen::{Screen, duration};
use crate::run::slots::{Held, Slots};
use crate::run::worker::{Failure, Job, Stop};
use crate::session::{Known, Session};
use crate::store::results::{Last, Outcome};
use crate::store::{link, record, results};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// How often events and signals are looked at.
const TICK: Duration = Duration::from_millis(100);
/// This many last lines of the log of a failed stage are shown.
const LOG_LINES: usize = 20;

/// How a run goes about it.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Stages that run at the same time, at most.
    pub jobs: Option<usize>,
    /// After a failure, everything that does not need the failed stage still runs.
    pub keep_going: bool,
}

/// What became of a stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It was there already.
    Cached,
    /// An older result was put back.
    Restored,
    Ran,
    /// `--with` stood in for it.
    Replaced,
    Failed,
    /// It needs a stage that failed, or the run was stopped before.
    Skipped,
}

/// One line of the summary.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub stage: String,
    pub fate: Fate,
    /// Why it ran, or why it failed.
    pub reason: String,
    /// Action key, when it became known.
    pub key: Option<String>,
    /// How long its program ran, in this run or when it was made.
    pub seconds: Option<f64>,
    pub outputs: BTreeMap<String, results::Produced>,
}

/// A run and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the run; its logs lie in `.pipeline/logs/RUN`.
    pub run: String,
    pub study: String,
    /// Seconds since 1970.
    pub started: u64,
    pub finished: u64,
    pub stages: Vec<Row>,
}

/// Why a stage has to run.
pub fn reasons(session: &Session, step: usize, action: &Action) -> Vec<String> {
    if session.forced.contains(&step) {
        return vec!["forced".into()];
    }
    let Some(last) = session.store.last(&session.graph.steps[step].stage) else {
        return vec!["it never ran".into()];
    };
    let words = action.differences(&last.action, |digest| session.store.manifest(digest));
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

/// What a finished job says.
type Done = (usize, Held, Result<Outcome, Failure>);

/// The state of one run.
struct Runner<'a> {
    session: &'a Session,
    options: &'a RunOptions,
    run: String,
    screen: Screen,
    slots: Slots,
    known: Vec<Option<Known>>,
    rows: Vec<Option<Row>>,
    /// Steps whose key is known and which wait for a slot.
    queue: Vec<(usize, Action, String)>,
    running: BTreeMap<usize, Events>,
    stop: Arc<Stop>,
}

/// Runs all wanted steps of a session.
pub fn run(
    session: &Session,
    options: &RunOptions,
    run: String,
    stop: &Arc<Stop>,
    screen: Screen,
) -> Result<Report> {
    let slots = Slots::of_machine(options.jobs);
    let steps = &session.graph.steps;
    for (step, _) in steps.iter().zip(&session.wanted).filter(|(_, wanted)| **wanted) {
        slots.check(step)?;
    }
    let started = results::now();
    let mut runner = Runner {
        session,
        options,
        run,
        screen,
        slots,
        known: vec![None; steps.len()],
        rows: vec![None; steps.len()],
        queue: Vec::new(),
        running: BTreeMap::new(),
        stop: Arc::clone(stop),
    };
    let (sender, receiver) = mpsc::channel::<Done>();
    let looped = std::thread::scope(|scope| runner.go(scope, &sender, &receiver));
    looped?;
    let report = Report {
        run: runner.run.clone(),
        study: session.graph.name.clone(),
        started,
        finished: results::now(),
        stages: runner.rows.into_iter().flatten().collect(),
    };
    if report.stages.iter().any(|r| !matches!(r.fate, Fate::Cached | Fate::Replaced)) {
        record::write(&session.store.at("runs").join(format!("{}.json", report.run)), &report, false)?;
    }
    Ok(report)
}

impl<'a> Runner<'a> {
    fn go<'s>(
        &mut self,
        scope: &'s std::thread::Scope<'s, '_>,
        sender: &Sender<Done>,
        receiver: &Receiver<Done>,
    ) -> Result<()>
    where
        'a: 's,
    {
        let mut result = Ok(());
        loop {
            if result.is_ok() {
                result = self.advance();
            }
            if result.is_err() {
                self.stop.ask();
            }
            if !self.stopping() {
                self.dispatch(scope, sender);
            }
            if self.running.is_empty() {
                self.skip_rest();
                return result;
            }
            match receiver.recv_timeout(TICK) {
                Ok(done) => result = result.and(self.done(done)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return result,
            }
            for (step, events) in &mut self.running {
                events.show(&self.session.graph.steps[*step].stage, &mut self.screen);
            }
        }
    }

    fn stopping(&self) -> bool {
        let failed = || self.rows.iter().flatten().any(|r| r.fate == Fate::Failed);
        self.stop.asked() || (!self.options.keep_going && failed())
    }

    /// Looks at every step whose inputs have become known: what is cached is done, the rest is queued.
    fn advance(&mut self) -> Result<()> {
        for i in 0..self.known.len() {
            let open = self.session.wanted[i]
                && self.rows[i].is_none()
                && !self.running.contains_key(&i)
                && !self.queue.iter().any(|(step, ..)| *step == i);
            if !open {
                continue;
            }
            if let Some(known) = self.session.stand_in(i)? {
                let (outputs, replaced) = (known.outputs.clone(), known.replaced.join(", "));
                self.known[i] = Some(known);
                self.row(i, Fate::Replaced, format!("--with gives {replaced}"), None, None, outputs);
                continue;
            }
            let step = &self.session.graph.steps[i];
            let ready = |need: usize| self.known[need].is_some();
            if !step.needs().all(ready) {
                let lost = |need: usize| {
                    self.rows[need].as_ref().is_some_and(|r| matches!(r.fate, Fate::Failed | Fate::Skipped))
                };
                if step.needs().any(lost) {
                    self.row(
                        i,
                        Fate::Skipped,
                        "a stage before it failed".into(),
                        None,
                        None,
                        BTreeMap::new(),
                    );
                }
                continue;
            }
            let Some(action) = self.session.action(i, &self.known)? else { continue };
            let key = action.key();
            let found =
                if self.session.forced.contains(&i) { None } else { self.session.store.lookup(&key)? };
            match found {
                Some(outcome) => {
                    let fate = if self.publish(i, &outcome)? { Fate::Restored } else { Fate::Cached };
                    self.known[i] = Some(Known::from(&outcome));
                    self.row(i, fate, String::new(), Some(key), Some(outcome.seconds), outcome.outputs);
                }
                None => self.queue.push((i, action, key)),
            }
        }
        Ok(())
    }

    /// Starts what is queued as far as there are slots.
    fn dispatch<'s>(&mut self, scope: &'s std::thread::Scope<'s, '_>, sender: &Sender<Done>)
    where
        'a: 's,
    {
        let mut waiting = Vec::new();
        for (i, action, key) in std::mem::take(&mut self.queue) {
            let step = &self.session.graph.steps[i];
            let Some(held) = self.slots.take(step) else {
                waiting.push((i, action, key));
                continue;
            };
            let reason = reasons(self.session, i, &action).join(", ");
            self.screen.start(&step.stage, &reason);
            let log: PathBuf =
                self.session.store.at("logs").join(&self.run).join(format!("{}.log", step.stage));
            let (events, feed) = Events::new();
            self.running.insert(i, events);
            self.row(i, Fate::Ran, reason, Some(key.clone()), None, BTreeMap::new());
            let job = Job {
                session: self.session,
                step: i,
                action,
                key,
                log,
                run: self.run.clone(),
                gpus: held.gpus.clone(),
                feed,
                stop: Arc::clone(&self.stop),
            };
            let sender = sender.clone();
            scope.spawn(move || {
                let outcome = job.work();
                // The receiver lives as long as anything runs.
                let _ = sender.send((i, held, outcome));
            });
        }
        self.queue = waiting;
    }

    fn done(&mut self, (i, held, outcome): Done) -> Result<()> {
        self.slots.give_back(held);
        let stage = self.session.graph.steps[i].stage.clone();
        if let Some(mut events) = self.running.remove(&i) {
            events.show(&stage, &mut self.screen);
        }
        match outcome {
            Ok(outcome) => {
                self.publish(i, &outcome)?;
                let by_us = outcome.run == self.run;
                let line = match by_us {
                    true => format!("done in {}", duration(outcome.seconds)),
                    false => "done by another runner".into(),
                };
                self.screen.finish(&stage, &line);
                self.known[i] = Some(Known::from(&outcome));
                if let Some(row) = &mut self.rows[i] {
                    row.seconds = Some(outcome.seconds);
                    row.outputs = outcome.outputs;
                    row.fate = if by_us { Fate::Ran } else { Fate::Cached };
                }
            }
            Err(failure) => {
                self.screen.finish(&stage, &failure.text);
                if let (Some(log), false) = (&failure.log, failure.stopped) {
                    show_log(&self.screen, log);
                }
                if let Some(row) = &mut self.rows[i] {
                    row.fate = if failure.stopped { Fate::Skipped } else { Fate::Failed };
                    row.reason = failure.text;
                }
            }
        }
        Ok(())
    }

    /// Makes `out/<stage>/` show a result. Returns whether something else stood there.
    fn publish(&self, i: usize, outcome: &Outcome) -> Result<bool> {
        let (session, step) = (self.session, &self.session.graph.steps[i]);
        let folder = session.graph.root.join(&session.graph.out).join(&step.stage);
        let mut changed = false;
        for output in &step.outputs {
            let Some(produced) = outcome.outputs.get(&output.name) else { continue };
            let target = relative(&folder, &session.store.place(&produced.digest));
            let path = folder.join(&output.file);
            if !std::fs::read_link(&path).is_ok_and(|old| old == target) {
                let lock = session.store.at("locks").join(format!("out-{}", step.stage));
                let _held = crate::store::lock::wait(&lock, false, || {}, || false)?;
                link::point(&path, &target)?;
                changed = true;
            }
        }
        let last =
            Last { action: outcome.action.clone(), seconds: outcome.seconds, finished: outcome.finished };
        session.store.set_last(&step.stage, &last)?;
        Ok(changed)
    }

    fn row(
        &mut self,
        i: usize,
        fate: Fate,
        reason: String,
        key: Option<String>,
        seconds: Option<f64>,
        outputs: BTreeMap<String, results::Produced>,
    ) {
        let stage = self.session.graph.steps[i].stage.clone();
        self.rows[i] = Some(Row { stage, fate, reason, key, seconds, outputs });
    }

    fn skip_rest(&mut self) {
        for i in 0..self.rows.len() {
            if self.session.wanted[i] && self.rows[i].is_none() {
                let reason = if self.stop.asked() { "the run was stopped" } else { "another stage failed" };
                self.row(i, Fate::Skipped, reason.into(), None, None, BTreeMap::new());
            }
        }
    }
}

/// `to` as seen from the folder `from`; both absolute.
fn relative(from: &std::path::Path, to: &std::path::Path) -> PathBuf {
    let mut common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    common = common.min(to.components().count());
    let up = from.components().skip(common).map(|_| std::path::Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

impl Report {
    /// What the exit code is made from.
    pub fn verdict(&self, stop: &Stop) -> Result<()> {
        if stop.asked() {
            return Err(Error::Interrupted);
        }
        let failed: Vec<&Row> = self.stages.iter().filter(|r| r.fate == Fate::Failed).collect();
        match failed.as_slice() {
            [] => Ok(()),
            [one] if one.reason.starts_with(worker::TRY_AGAIN) => Err(Error::TryAgain(one.stage.clone())),
            many => Err(Error::Failed(many.iter().map(|r| r.stage.clone()).collect())),
        }
    }
}

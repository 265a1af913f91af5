//! Running a study: what is cached is restored, the rest runs as its inputs become known.

pub mod attempt;
pub mod build;
pub mod events;
pub mod screen;
pub mod slots;
pub mod supervise;
pub mod worker;

use crate::error::{Error, IoContext, Result};
use crate::key::Action;
use crate::run::events::Events;
use crate::run::screen::{Screen, duration};
use crate::run::slots::{Held, Slots};
use crate::run::worker::{Failure, Job, Stop};
use crate::session::{Known, Session, Unit};
use crate::store::results::{Last, Outcome};
use crate::store::{link, record, results};
use serde::{Deserialize, Serialize};
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
    /// Long stages run again without asking when only their program changed.
    pub yes: bool,
    /// After a failure, everything that does not need the failed stage still runs.
    pub keep_going: bool,
}

/// What became of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub stage: String,
    pub fate: Fate,
    /// Why it ran, or why it failed.
    pub reason: String,
    /// Action keys, when they became known: one, or one for each entry of a mapped stage.
    pub keys: Vec<String>,
    /// How long its program ran, in this run or when it was made.
    pub seconds: Option<f64>,
    pub outputs: BTreeMap<String, results::Produced>,
}

/// A run and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// What a finished job says.
type Done = (Unit, Held, Result<Outcome, Failure>);

/// The state of one run.
struct Runner<'a> {
    session: &'a Session,
    options: &'a RunOptions,
    run: String,
    screen: Screen,
    slots: Slots,
    known: Vec<Option<Known>>,
    progress: Vec<Progress>,
    rows: Vec<Option<Row>>,
    /// Units whose key is known and which wait for a slot.
    queue: Vec<Unit>,
    running: BTreeMap<String, (Unit, Events)>,
    stop: Arc<Stop>,
}

/// How far the units of a step are.
#[derive(Default)]
struct Progress {
    /// Whether its units are known.
    begun: bool,
    all: usize,
    done: Vec<(Unit, Outcome)>,
    /// How many of them ran, now or in another runner.
    ran: usize,
    failed: Option<Fate>,
    /// Of the unit that ran last, or why one failed.
    reason: String,
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
        progress: steps.iter().map(|_| Progress::default()).collect(),
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
            if result.is_ok() && !self.stopping() {
                result = self.advance();
                if result.is_err() && !self.stop.asked() {
                    self.stop.ask();
                }
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
            for (unit, events) in self.running.values_mut() {
                events.show(&unit.label, &mut self.screen);
            }
        }
    }

    fn stopping(&self) -> bool {
        let failed = || self.progress.iter().any(|p| p.failed == Some(Fate::Failed));
        self.stop.asked() || (!self.options.keep_going && failed())
    }

    /// Looks at every step whose inputs have become known: what is cached is done, the rest is queued.
    fn advance(&mut self) -> Result<()> {
        for i in 0..self.known.len() {
            if !self.session.wanted[i] || self.rows[i].is_some() || self.progress[i].begun {
                continue;
            }
            if let Some(known) = self.session.stand_in(i)? {
                let (outputs, replaced) = (known.outputs.clone(), known.replaced.join(", "));
                self.known[i] = Some(known);
                self.row(i, Fate::Replaced, format!("--with gives {replaced}"), outputs);
                continue;
            }
            let step = &self.session.graph.steps[i];
            if !step.needs().all(|need| self.known[need].is_some()) {
                let lost = |need: usize| {
                    self.rows[need].as_ref().is_some_and(|r| matches!(r.fate, Fate::Failed | Fate::Skipped))
                };
                if step.needs().any(lost) {
                    self.row(i, Fate::Skipped, "a stage before it failed".into(), BTreeMap::new());
                }
                continue;
            }
            let Some(units) = self.session.units(i, &self.known)? else { continue };
            self.progress[i].begun = true;
            self.progress[i].all = units.len();
            for unit in units {
                self.look_up(unit)?;
            }
            self.settle(i)?;
        }
        Ok(())
    }

    /// Takes a unit's result from the store, or queues it.
    fn look_up(&mut self, unit: Unit) -> Result<()> {
        let forced = self.session.forced.contains(&unit.step);
        let found = if forced { None } else { self.session.store.lookup(&unit.key)? };
        match found {
            Some(outcome) => self.complete(unit, outcome),
            None => {
                if let Some(seconds) = self.costly(&unit) {
                    self.ask(&unit, seconds);
                }
                if self.progress[unit.step].failed.is_none() {
                    self.queue.push(unit);
                }
                Ok(())
            }
        }
    }

    /// How long a unit took last time, when that was long and only its program is different now.
    fn costly(&self, unit: &Unit) -> Option<f64> {
        let last = self.session.store.last(&unit.label)?;
        let same = Action { program: last.action.program, ..unit.action.clone() } == last.action;
        let only_program = same && unit.action.program != last.action.program;
        let long = last.seconds > self.session.graph.ask_above.as_secs_f64();
        (only_program && long && !self.options.yes && !self.session.forced.contains(&unit.step))
            .then_some(last.seconds)
    }

    /// Asks whether a costly unit is to run again. Where nobody can be asked, it is not run.
    fn ask(&mut self, unit: &Unit, seconds: f64) {
        let (label, took) = (&unit.label, duration(seconds));
        let question = format!("{label} took {took}, and only its program changed. Run it again? [y/N] ");
        if self.screen.ask(&question) {
            return;
        }
        let stage = &self.session.graph.steps[unit.step].stage;
        let text = format!(
            "not run: it took {took} and only its program changed; `--yes` runs it, `pipeline accept {stage}` keeps its outputs"
        );
        self.screen.say(&format!("{label}: {text}"));
        let progress = &mut self.progress[unit.step];
        progress.failed = Some(Fate::Failed);
        progress.reason = text;
    }

    fn complete(&mut self, unit: Unit, outcome: Outcome) -> Result<()> {
        let (seconds, finished) = (outcome.seconds, outcome.finished);
        let last = Last { action: outcome.action.clone(), seconds, finished };
        self.session.store.set_last(&unit.label, &last)?;
        self.progress[unit.step].done.push((unit, outcome));
        Ok(())
    }

    /// Ends a step when all its units have ended.
    fn settle(&mut self, i: usize) -> Result<()> {
        let open = self.queue.iter().chain(self.running.values().map(|(unit, _)| unit)).any(|u| u.step == i);
        if open || self.rows[i].is_some() || !self.progress[i].begun {
            return Ok(());
        }
        let step = &self.session.graph.steps[i];
        let progress = &mut self.progress[i];
        if let Some(fate) = progress.failed.clone() {
            let reason = progress.reason.clone();
            self.row(i, fate, reason, BTreeMap::new());
            return Ok(());
        }
        progress.done.sort_by(|a, b| a.0.label.cmp(&b.0.label));
        let known = self.session.gather(step, &progress.done)?;
        let restored = publish(self.session, i, &known)?;
        let progress = &self.progress[i];
        let fate = match progress.ran {
            0 if restored => Fate::Restored,
            0 => Fate::Cached,
            _ => Fate::Ran,
        };
        let mut reason = progress.reason.clone();
        if step.each.is_some() && progress.ran > 0 {
            reason = format!("{} of {} entries: {reason}", progress.ran, progress.all);
        }
        let outputs = known.outputs.clone();
        self.known[i] = Some(known);
        self.row(i, fate, reason, outputs);
        Ok(())
    }

    /// Starts what is queued as far as there are slots.
    fn dispatch<'s>(&mut self, scope: &'s std::thread::Scope<'s, '_>, sender: &Sender<Done>)
    where
        'a: 's,
    {
        let mut waiting = Vec::new();
        for unit in std::mem::take(&mut self.queue) {
            let step = &self.session.graph.steps[unit.step];
            if self.running.values().any(|(other, _)| other.key == unit.key) {
                // Another variant is making the same; its result will serve both.
                waiting.push(unit);
                continue;
            }
            let Some(held) = self.slots.take(step) else {
                waiting.push(unit);
                continue;
            };
            let reason = reasons(self.session, &unit).join(", ");
            self.screen.start(&unit.label, &reason);
            self.progress[unit.step].reason = reason;
            let log: PathBuf =
                self.session.store.at("logs").join(&self.run).join(format!("{}.log", unit.label));
            let (events, feed) = Events::new();
            self.running.insert(unit.label.clone(), (unit.clone(), events));
            let job = Job {
                session: self.session,
                unit: unit.clone(),
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
                let _ = sender.send((unit, held, outcome));
            });
        }
        self.queue = waiting;
    }

    fn done(&mut self, (unit, held, outcome): Done) -> Result<()> {
        self.slots.give_back(held);
        if let Some((_, mut events)) = self.running.remove(&unit.label) {
            events.show(&unit.label, &mut self.screen);
        }
        let step = unit.step;
        match outcome {
            Ok(outcome) => {
                let by_us = outcome.run == self.run;
                let line = match by_us {
                    true => format!("done in {}", duration(outcome.seconds)),
                    false => "done by another runner".into(),
                };
                self.screen.finish(&unit.label, &line);
                self.progress[step].ran += usize::from(by_us);
                // Units that waited for the same action are served as well.
                let (same, rest) =
                    std::mem::take(&mut self.queue).into_iter().partition(|u: &Unit| u.key == unit.key);
                self.queue = rest;
                self.complete(unit, outcome)?;
                let same: Vec<Unit> = same;
                for other in same {
                    let index = other.step;
                    self.look_up(other)?;
                    self.settle(index)?;
                }
            }
            Err(failure) => {
                self.screen.finish(&unit.label, &failure.text);
                if let (Some(log), false) = (&failure.log, failure.stopped) {
                    show_log(&self.screen, log);
                }
                let progress = &mut self.progress[step];
                if progress.failed != Some(Fate::Failed) {
                    progress.failed = Some(if failure.stopped { Fate::Skipped } else { Fate::Failed });
                    progress.reason = failure.text;
                }
                if !self.options.keep_going {
                    self.queue.retain(|u| u.step != step);
                }
            }
        }
        self.settle(step)
    }

    fn row(&mut self, i: usize, fate: Fate, reason: String, outputs: BTreeMap<String, results::Produced>) {
        let done = &self.progress[i].done;
        let keys = done.iter().map(|(unit, _)| unit.key.clone()).collect();
        let seconds = (!done.is_empty()).then(|| done.iter().map(|(_, outcome)| outcome.seconds).sum());
        let stage = self.session.graph.steps[i].id.clone();
        self.rows[i] = Some(Row { stage, fate, reason, keys, seconds, outputs });
    }

    fn skip_rest(&mut self) {
        for i in 0..self.rows.len() {
            if self.session.wanted[i] && self.rows[i].is_none() {
                let reason = if self.stop.asked() { "the run was stopped" } else { "another stage failed" };
                self.row(i, Fate::Skipped, reason.into(), BTreeMap::new());
            }
        }
    }
}

/// Makes `out/` show the outputs of a step, under `out/VARIANT/` for variants. Returns whether something else stood
/// there.
pub fn publish(session: &Session, i: usize, known: &Known) -> Result<bool> {
    let step = &session.graph.steps[i];
    let mut changed = false;
    for variant in &step.variants {
        // Joining an empty name adds nothing.
        let folder = session.graph.root.join(&session.graph.out).join(variant).join(&step.stage);
        for output in &step.outputs {
            let Some(produced) = known.outputs.get(&output.name) else { continue };
            let path = folder.join(&output.file);
            let target = |folder: &std::path::Path| relative(folder, &session.store.place(&produced.digest));
            if std::fs::read_link(&path).is_ok_and(|old| old == target(&folder)) {
                continue;
            }
            let lock = session.store.at("locks").join(format!("out-{variant}-{}", step.stage));
            let _held = crate::store::lock::wait(&lock, false, || {}, || false)?;
            std::fs::create_dir_all(&folder).at("making", &folder)?;
            // `out` may itself be a link to another disk; a relative link counts from where it really is.
            let real = folder.canonicalize().at("finding", &folder)?;
            let target = target(&real);
            if !std::fs::read_link(&path).is_ok_and(|old| old == target) {
                link::point(&path, &target)?;
                changed = true;
            }
        }
    }
    Ok(changed)
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

//! The loop of a run: what is known is looked up, what is missing waits for its slot, what ends is passed on.

use crate::cache::results;
use crate::cache::runs::{Fate, Row};
use crate::engine::stop::Stop;
use crate::error::Result;
use crate::run::slots::Slots;
use crate::run::state::{Done, Progress, RunOptions, Runner};
use crate::run::worker::Job;
use crate::screen::Screen;
use crate::screen::events::Events;
use crate::session::reasons::reasons;
use crate::session::{Session, Unit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// How often events and signals are looked at.
const TICK: Duration = Duration::from_millis(100);

impl<'a> Runner<'a> {
    /// The state before anything was looked at.
    pub fn new(
        session: &'a Session,
        options: &'a RunOptions,
        run: String,
        stop: &Arc<Stop>,
        screen: Screen,
    ) -> Result<Self> {
        let steps = &session.graph.steps;
        let slots = Slots::of_machine(options.jobs, options.gpus_from_top);
        for (step, _) in steps.iter().zip(&session.wanted).filter(|(_, wanted)| **wanted) {
            // What was made already, here or elsewhere, needs no room; that is seen when its key is known.
            if session.remote.is_none() && results::last(&session.store, &step.id).is_none() {
                slots.check(step)?;
            }
        }
        Ok(Self {
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
            transfers: Vec::new(),
            moving: BTreeMap::new(),
            remade: BTreeSet::new(),
            stop: Arc::clone(stop),
        })
    }

    /// Runs everything to its end and gives a row for each stage that had a part in it.
    pub fn finish(mut self) -> Result<Vec<Row>> {
        let (sender, receiver) = mpsc::channel::<Done>();
        std::thread::scope(|scope| self.go(scope, &sender, &receiver))?;
        Ok(self.rows.into_iter().flatten().collect())
    }

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
                result = loop {
                    match self.advance() {
                        Ok(true) => {}
                        ended => break ended.map(drop),
                    }
                };
                if result.is_err() && !self.stop.asked() {
                    self.stop.ask();
                }
            }
            if !self.stopping() {
                self.dispatch(scope, sender);
            }
            self.dispatch_transfers(scope, sender);
            if self.running.is_empty() && self.moving.is_empty() {
                self.skip_rest();
                return result;
            }
            match receiver.recv_timeout(TICK) {
                Ok(done) => result = result.and(self.done(done)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return result,
            }
            for (name, (_, events)) in &mut self.running {
                events.show(name, &mut self.screen);
            }
            for (name, (_, events)) in &mut self.moving {
                events.show(name, &mut self.screen);
            }
        }
    }

    pub(super) fn stopping(&self) -> bool {
        let failed = || {
            self.progress.iter().any(|p| p.failed == Some(Fate::Failed))
                || self.rows.iter().flatten().any(|row| row.fate == Fate::Failed)
        };
        self.stop.asked() || (!self.options.keep_going && failed())
    }

    /// Looks at every step whose inputs have become known: what is cached is done, the rest is queued. Returns whether
    /// steps were taken up again, so that it has to look once more.
    fn advance(&mut self) -> Result<bool> {
        let mut again = false;
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
            let units = match self.session.units(i, &self.known) {
                Err(e) if self.progress[i].renewed > 0 => {
                    // What was there when the run began is not now; that is this stage's failure, not everybody's.
                    let id = &self.session.graph.steps[i].id;
                    self.screen.say(&format!("{id}: failed: {e}"));
                    self.row(i, Fate::Failed, format!("failed: {e}"), BTreeMap::new());
                    continue;
                }
                units => units?,
            };
            let Some(units) = units else { continue };
            self.tell_of_program(i, &units);
            let mut found = Vec::with_capacity(units.len());
            let mut dropped = BTreeSet::new();
            for unit in units {
                let outcome = self.find(&unit)?;
                if outcome.is_none() {
                    dropped.extend(self.session.dropped(&unit)?);
                }
                found.push((unit, outcome));
            }
            if !dropped.is_subset(&self.remade) {
                self.remake(dropped);
                again = true;
                continue;
            }
            self.progress[i].begun = true;
            self.progress[i].all = found.len();
            for (unit, outcome) in found {
                match outcome {
                    Some(outcome) => self.complete(unit, outcome)?,
                    None => self.seek(unit),
                }
            }
            self.settle(i)?;
        }
        Ok(again)
    }

    /// Says when the program of a step is not the one that the run began with.
    fn tell_of_program(&self, i: usize, units: &[Unit]) {
        let (Some(unit), Some(found)) = (units.first(), &self.session.programs[i]) else { return };
        if unit.action.program != found.digest && self.progress[i].renewed == 0 {
            let (step, name) = (&self.session.graph.steps[i], unit.action.template.first());
            let name = name.map_or("", String::as_str);
            self.screen.say(&format!("{}: `{name}` {}", step.id, super::settle::ANEW));
        }
    }

    /// Takes a unit's result from the store, or queues it.
    pub(super) fn look_up(&mut self, unit: Unit) -> Result<()> {
        match self.find(&unit)? {
            Some(outcome) => self.complete(unit, outcome),
            None => {
                self.seek(unit);
                Ok(())
            }
        }
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
            self.screen.uses(&unit.label, &held.gpus);
            self.progress[unit.step].reason = reason;
            let log = self.session.store.log(&self.run, &unit.label);
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
                let _ = sender.send(Done::Ran(Box::new((unit, held, outcome))));
            });
        }
        self.queue = waiting;
    }
}

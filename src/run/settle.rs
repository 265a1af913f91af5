//! Taking in what ended: units that are done or failed, then the steps whose units have all ended.

use crate::cache::results::Outcome;
use crate::cache::runs::{Fate, Row};
use crate::error::Result;
use crate::run::out::publish;
use crate::run::state::Transfer;
use crate::run::state::{Done, Progress, Runner};
use crate::screen::show_log;
use crate::session::Unit;
use crate::text::duration;
use std::collections::BTreeMap;

/// How a step is told of that is looked at anew.
pub(super) const ANEW: &str = "changed since the run began; going on with what is there now";
/// A step whose parts change this often before it can start has failed.
const PATIENCE: usize = 5;

impl Runner<'_> {
    pub(super) fn done(&mut self, done: Done) -> Result<()> {
        let (unit, held, outcome) = match done {
            Done::Ran(ended) => *ended,
            Done::Moved(ended) => {
                let (transfer, moved) = *ended;
                return self.moved(transfer, moved);
            }
        };
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
                if by_us {
                    self.share(&unit, &outcome);
                }
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
            Err(failure) if !failure.stale.is_empty() => {
                self.anew(&unit.label, step, &failure.stale);
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

    /// Has a step looked at again, because the unit that was to start would not have been what its key says.
    fn anew(&mut self, label: &str, step: usize, stale: &[String]) {
        let names = stale.join(", ");
        let progress = &mut self.progress[step];
        progress.renewed += usize::from(!std::mem::replace(&mut progress.anew, true));
        let line = if progress.renewed > PATIENCE {
            progress.failed = Some(Fate::Failed);
            progress.reason = format!("failed: {names} changes again and again before it can start");
            progress.reason.clone()
        } else {
            format!("{names} {ANEW}")
        };
        self.screen.finish(label, &line);
        self.queue.retain(|unit| unit.step != step);
        self.transfers.retain(|transfer| transfer.awaited().is_none_or(|unit| unit.step != step));
    }

    pub(super) fn row(
        &mut self,
        i: usize,
        fate: Fate,
        reason: String,
        outputs: BTreeMap<String, store::Produced>,
    ) {
        let done = &self.progress[i].done;
        let keys = done.iter().map(|(unit, _)| unit.key).collect();
        let seconds = (!done.is_empty()).then(|| done.iter().map(|(_, outcome)| outcome.seconds).sum());
        let stage = self.session.graph.steps[i].id.clone();
        self.rows[i] = Some(Row { stage, fate, reason, keys, seconds, outputs });
    }

    pub(super) fn skip_rest(&mut self) {
        for i in 0..self.rows.len() {
            if self.session.wanted[i] && self.rows[i].is_none() {
                let reason = if self.stop.asked() { "the run was stopped" } else { "another stage failed" };
                self.row(i, Fate::Skipped, reason.into(), BTreeMap::new());
            }
        }
    }

    pub(super) fn complete(&mut self, unit: Unit, outcome: Outcome) -> Result<()> {
        self.session.note_last(&unit, &outcome)?;
        self.progress[unit.step].done.push((unit, outcome));
        Ok(())
    }

    /// Ends a step when all its units have ended.
    pub(super) fn settle(&mut self, i: usize) -> Result<()> {
        let fetched = self.transfers.iter().chain(self.moving.values().map(|(t, _)| t));
        let fetched = fetched.filter_map(Transfer::awaited);
        let open = self.queue.iter().chain(self.running.values().map(|(unit, _)| unit)).chain(fetched);
        let open = open.into_iter().any(|unit| unit.step == i);
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
        if progress.anew {
            let (renewed, ran) = (progress.renewed, progress.ran);
            *progress = Progress { renewed, ran, ..Progress::default() };
            return Ok(());
        }
        progress.done.sort_by(|a, b| a.0.label.cmp(&b.0.label));
        let known = self.session.gather(step, &progress.done)?;
        let restored = publish(self.session, i, &known)?;
        let progress = &self.progress[i];
        let fate = match progress.ran {
            0 if progress.fetched > 0 => Fate::Fetched,
            0 if restored => Fate::Restored,
            0 => Fate::Cached,
            _ => Fate::Ran,
        };
        let mut reason = progress.reason.clone();
        if step.mapped() && progress.ran > 0 {
            reason = format!("{} of {} entries: {reason}", progress.ran, progress.all);
        }
        let outputs = known.outputs.clone();
        self.known[i] = Some(known);
        self.row(i, fate, reason, outputs);
        Ok(())
    }
}

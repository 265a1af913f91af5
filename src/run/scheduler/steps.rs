//! The part of the scheduler that is about steps: when one is looked at, made again, done, or given up.

use super::{Effect, End, Entry, Found, Phase, Scheduler, Sought, StepEnd, StepId, StepPhase, TaskId, Why};

impl Scheduler {
    /// Asks what the store has of a step whose inputs are known.
    pub(super) fn look(&mut self, id: StepId) {
        let step = self.step(id);
        step.phase = StepPhase::Looking { stale: false };
        let whole = step.remade;
        self.ask_for(Effect::Look { step: id, whole });
    }

    pub(super) fn looked(&mut self, id: StepId, found: Found) {
        let first = self.tasks.len();
        if let Found::Tasks { tasks, .. } = &found {
            // They have their numbers whatever comes of them.
            let task =
                |sought: &Sought| Entry { step: id, key: sought.key, ask: sought.ask, phase: Phase::Ended };
            self.tasks.extend(tasks.iter().map(task));
        }
        let StepPhase::Looking { stale } = self.step(id).phase else { return };
        self.open -= 1;
        self.step(id).phase = StepPhase::Waiting;
        if let Some(why) = self.halted {
            return self.end(id, StepEnd::Skipped(why));
        }
        if stale || self.step(id).missing > 0 {
            return self.look_when_ready(id);
        }
        match found {
            Found::Replaced => self.end(id, StepEnd::Replaced),
            Found::NotYet => self.late.push(id),
            Found::Failed => {
                (self.steps[id.0].phase, self.steps[id.0].failed) = (StepPhase::Open, 1);
                self.give_up();
                self.settle(id);
            }
            Found::Tasks { tasks, dropped } => {
                let dropped: Vec<StepId> = dropped.into_iter().filter(|d| !self.steps[d.0].remade).collect();
                if !dropped.is_empty() {
                    return dropped.into_iter().for_each(|step| self.remake(step));
                }
                let here = tasks.iter().filter(|sought| sought.here).count();
                let step = self.step(id);
                step.phase = StepPhase::Open;
                (step.first, step.all) = (TaskId(first), tasks.len());
                step.open = tasks.len() - here;
                if step.open == 0 {
                    return self.settle(id);
                }
                for (index, _) in tasks.iter().enumerate().filter(|(_, sought)| !sought.here) {
                    self.seek(TaskId(first + index));
                }
            }
        }
    }

    /// A step that waits is looked at as soon as it can be, and given up when it never can.
    fn look_when_ready(&mut self, id: StepId) {
        let step = self.step(id);
        if step.phase != StepPhase::Waiting {
            return;
        }
        if step.lost > 0 {
            self.end(id, StepEnd::Skipped(Why::Before));
        } else if step.missing == 0 {
            self.look(id);
        }
    }

    /// Takes a step up again that has ended well, because one that has to run reads what was dropped of it.
    fn remake(&mut self, id: StepId) {
        if !matches!(self.step(id).phase, StepPhase::Ended(end) if end.is_good()) {
            return;
        }
        let step = self.step(id);
        step.phase = StepPhase::Waiting;
        step.remade = true;
        (step.all, step.ran, step.fetched) = (0, 0, 0);
        let readers = step.readers.clone();
        self.effects.push(Effect::Remake { step: id });
        for reader in readers {
            let reader = self.step(reader);
            reader.missing += 1;
            if let StepPhase::Looking { stale } = &mut reader.phase {
                *stale = true;
            }
        }
        self.look_when_ready(id);
    }

    /// Ends a step when all of its tasks have ended.
    pub(super) fn settle(&mut self, id: StepId) {
        let (halted, why) = (self.halted.is_some(), self.halted.unwrap_or(Why::Another));
        let step = self.step(id);
        if step.phase != StepPhase::Open || step.open > 0 {
            return;
        }
        if step.failed > 0 {
            self.end(id, StepEnd::Failed);
        } else if step.skipped > 0 || (step.anew && halted) {
            self.end(id, StepEnd::Skipped(why));
        } else if step.anew {
            // What ran so far has run, whatever comes now.
            (step.anew, step.fetched) = (false, 0);
            step.phase = StepPhase::Waiting;
            self.look_when_ready(id);
        } else {
            step.phase = StepPhase::Gathering;
            self.ask_for(Effect::Gather { step: id });
        }
    }

    pub(super) fn gathered(&mut self, id: StepId, restored: bool) {
        let step = self.step(id);
        if step.phase != StepPhase::Gathering {
            return;
        }
        let end = match step.ran {
            0 if step.fetched > 0 => StepEnd::Fetched,
            0 if restored => StepEnd::Restored,
            0 => StepEnd::Cached,
            ran => StepEnd::Ran { ran, all: step.all },
        };
        self.open -= 1;
        self.end(id, end);
    }

    /// Ends a step, and with it those that can never be made without it.
    fn end(&mut self, id: StepId, end: StepEnd) {
        let halted = self.halted;
        let mut ended = vec![(id, end)];
        while let Some((id, end)) = ended.pop() {
            let step = self.step(id);
            step.phase = StepPhase::Ended(end);
            let (remade, readers) = (step.remade, step.readers.clone());
            self.effects.push(Effect::Ended { step: id, end });
            for reader in readers {
                let step = self.step(reader);
                match end.is_good() {
                    true => step.missing -= 1,
                    false => step.lost += 1,
                }
                if step.lost > 0 && step.phase == StepPhase::Waiting {
                    let end = StepEnd::Skipped(halted.unwrap_or(Why::Before));
                    // At once, so that it is not told to end by two of those that it needs.
                    step.phase = StepPhase::Ended(end);
                    ended.push((reader, end));
                } else if halted.is_none() {
                    self.look_when_ready(reader);
                }
            }
            if remade && halted.is_none() {
                std::mem::take(&mut self.late).into_iter().for_each(|late| self.look_when_ready(late));
            }
        }
    }

    /// After a failure nothing new begins, unless the run is to go on.
    pub(super) fn give_up(&mut self) {
        if !self.settings.keep_going {
            self.halt(Why::Another);
        }
    }

    /// Begins nothing new: what has not begun is given up, what runs goes on to its end, and what waits for the same
    /// action shares its fate.
    pub(super) fn halt(&mut self, why: Why) {
        if self.halted == Some(Why::Stopped) || self.halted == Some(why) {
            return;
        }
        self.halted = Some(why);
        self.ready.clear();
        let kept = std::mem::take(&mut self.transfers);
        for index in 0..self.tasks.len() {
            match self.tasks[index].phase {
                Phase::ToFetch | Phase::Queued => self.close(TaskId(index), End::Skipped),
                // What was made is safe in the store; `push` sends it later.
                Phase::ToSend if why == Why::Stopped => self.tasks[index].phase = Phase::Ended,
                _ => {}
            }
        }
        self.transfers =
            kept.into_iter().filter(|t| matches!(self.tasks[t.0].phase, Phase::ToSend)).collect();
        for index in 0..self.steps.len() {
            if self.steps[index].phase == StepPhase::Waiting {
                self.end(StepId(index), StepEnd::Skipped(why));
            }
        }
    }

    /// Nothing is under way any more; what is left can never be made.
    pub(super) fn skip_rest(&mut self) {
        let why = *self.halted.get_or_insert(Why::Another);
        for index in 0..self.steps.len() {
            if self.steps[index].phase == StepPhase::Waiting {
                self.end(StepId(index), StepEnd::Skipped(why));
            }
        }
    }
}

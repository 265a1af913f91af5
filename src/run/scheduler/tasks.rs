//! The part of the scheduler that is about tasks: the way of each from what is missing to its result or its failure.

use super::{Attempted, Claim, Effect, End, PATIENCE, Phase, Scheduler, TaskId, Why};
use crate::cache::failure::{Change, Failure};
use std::collections::VecDeque;
use std::collections::hash_map::Entry;

impl Scheduler {
    /// A task that the store does not have: one of every action goes ahead, the others wait for what it gives.
    pub(super) fn seek(&mut self, id: TaskId) {
        let key = self.task(id).key;
        match self.claims.entry(key) {
            Entry::Occupied(mut claim) => {
                claim.get_mut().behind.push_back(id);
                self.task(id).phase = Phase::Behind;
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Claim { owner: id, behind: VecDeque::new() });
                self.go(id);
            }
        }
    }

    /// The shared cache is asked first, unless the task is to run in any case.
    pub(super) fn go(&mut self, id: TaskId) {
        if self.settings.cache && !self.forced(id) && self.halted.is_none() {
            self.task(id).phase = Phase::ToFetch;
            self.transfers.push_back(id);
        } else {
            self.enqueue(id);
        }
    }

    fn forced(&self, id: TaskId) -> bool {
        self.steps[self.tasks[id.0].step.0].plan.forced
    }

    /// A task that has to run.
    fn enqueue(&mut self, id: TaskId) {
        let step = &self.steps[self.tasks[id.0].step.0];
        let request = step.plan.request;
        if self.halted.is_some() {
            self.close(id, End::Skipped);
        } else if step.anew {
            self.close(id, End::Dropped);
        } else if !self.slots.may_ever_fit(&request) {
            let there = self.settings.capacity.gpus;
            self.fail(id, Failure::NoRoom { gpus: request.gpus, there });
        } else if self.task(id).ask {
            self.task(id).phase = Phase::Asking;
            self.ask_for(Effect::Ask { task: id });
        } else {
            self.queue(id);
        }
    }

    fn queue(&mut self, id: TaskId) {
        let request = self.steps[self.tasks[id.0].step.0].plan.request;
        self.task(id).phase = Phase::Queued;
        self.ready.push(request, id);
    }

    pub(super) fn fetched(&mut self, id: TaskId, hit: bool) {
        if !matches!(self.task(id).phase, Phase::Fetching) {
            return;
        }
        self.open -= 1;
        self.moving -= 1;
        match hit {
            true => self.close(id, End::Fetched),
            false => self.enqueue(id),
        }
    }

    pub(super) fn answered(&mut self, id: TaskId, refusal: Option<Failure>) {
        if !matches!(self.task(id).phase, Phase::Asking) {
            return;
        }
        self.open -= 1;
        let anew = self.steps[self.tasks[id.0].step.0].anew;
        match refusal {
            _ if self.halted.is_some() => self.close(id, End::Skipped),
            None if anew => self.close(id, End::Dropped),
            None => self.queue(id),
            Some(failure) => self.fail(id, failure),
        }
    }

    /// Starts what is queued as far as there is room.
    pub(super) fn start_ready(&mut self) {
        while let Some((id, held)) = self.ready.pop(&mut self.slots) {
            if !matches!(self.task(id).phase, Phase::Queued) {
                self.slots.give_back(held);
                continue;
            }
            let gpus = held.gpus.clone();
            self.task(id).phase = Phase::Running { held, attempt: 1 };
            self.ask_for(Effect::Start { task: id, gpus, attempt: 1, after: None });
        }
    }

    pub(super) fn attempted(&mut self, id: TaskId, end: Attempted) {
        let stopped = self.halted == Some(Why::Stopped);
        let retries = self.steps[self.tasks[id.0].step.0].plan.retries;
        let Phase::Running { held, attempt } = &mut self.task(id).phase else { return };
        if let Attempted::Failed(failure) = &end
            && failure.may_pass()
            && *attempt <= retries
            && !stopped
        {
            // It keeps what it holds.
            *attempt += 1;
            let (gpus, attempt, after) = (held.gpus.clone(), *attempt, Some(failure.clone()));
            self.effects.push(Effect::Start { task: id, gpus, attempt, after });
            return;
        }
        self.open -= 1;
        if let Phase::Running { held, .. } = std::mem::replace(&mut self.task(id).phase, Phase::Ended) {
            self.slots.give_back(held);
        }
        match end {
            Attempted::Made => self.close(id, End::Made),
            Attempted::Elsewhere => self.close(id, End::Elsewhere),
            Attempted::Stale(_) if self.halted.is_some() => self.close(id, End::Skipped),
            Attempted::Stale(parts) => self.anew(id, parts),
            // What passes away by itself, and was not tried again, is a wish to stop that was followed.
            Attempted::Failed(failure) if failure == Failure::Stopped || (stopped && failure.may_pass()) => {
                self.close(id, End::Skipped);
            }
            Attempted::Failed(failure) => self.fail(id, failure),
        }
    }

    /// A task would not have been what its action says: its step is looked at again. What of the step has begun ends
    /// first, what has not is given up.
    fn anew(&mut self, id: TaskId, parts: Vec<Change>) {
        let step = &mut self.steps[self.tasks[id.0].step.0];
        if !std::mem::replace(&mut step.anew, true) {
            step.renewed += 1;
        }
        let (renewed, first, all) = (step.renewed, step.first.0, step.all);
        for other in first..first + all {
            if matches!(self.tasks[other].phase, Phase::Behind | Phase::ToFetch | Phase::Queued) {
                self.close(TaskId(other), End::Dropped);
            }
        }
        if renewed > PATIENCE {
            self.fail(id, Failure::Unsteady { parts });
        } else {
            self.effects.push(Effect::Anew { task: id, parts });
            self.close(id, End::Dropped);
        }
    }

    /// A task has failed for good.
    fn fail(&mut self, id: TaskId, failure: Failure) {
        self.effects.push(Effect::Failed { task: id, failure });
        // Before the task is closed, so that nobody goes ahead in its place.
        self.give_up();
        self.close(id, End::Failed);
    }

    /// Ends a task, and serves those that waited for the same action.
    pub(super) fn close(&mut self, id: TaskId, end: End) {
        let share = end == End::Made && self.settings.cache && self.halted != Some(Why::Stopped);
        let task = self.task(id);
        task.phase = if share { Phase::ToSend } else { Phase::Ended };
        let (step, key) = (task.step, task.key);
        if share {
            self.transfers.push_back(id);
        }
        let counted = self.step(step);
        counted.open -= 1;
        match end {
            End::Made => counted.ran += 1,
            End::Fetched => counted.fetched += 1,
            End::Failed => counted.failed += 1,
            End::Skipped => counted.skipped += 1,
            End::Here | End::Elsewhere | End::Dropped => {}
        }
        if self.claims.get(&key).is_some_and(|claim| claim.owner == id)
            && let Some(claim) = self.claims.remove(&key)
        {
            self.serve(claim, end);
        }
        self.settle(step);
    }

    /// What the owner of an action came to serves those behind it; where it came to nothing, the next one goes ahead.
    fn serve(&mut self, claim: Claim, end: End) {
        let good = matches!(end, End::Made | End::Fetched | End::Elsewhere);
        let mut behind = VecDeque::new();
        for id in claim.behind {
            if !matches!(self.task(id).phase, Phase::Behind) {
                continue;
            }
            // Who must run is content only with what this run made.
            if good && (end == End::Made || !self.forced(id)) {
                self.effects.push(Effect::Share { task: id, from: claim.owner });
                self.close(id, if end == End::Fetched { End::Fetched } else { End::Here });
            } else {
                behind.push_back(id);
            }
        }
        if let Some(owner) = behind.pop_front() {
            let key = self.task(owner).key;
            self.claims.insert(key, Claim { owner, behind });
            self.promoted.push(owner);
        }
    }

    /// Starts transfers as far as there is room. What was made is sent also after a failure.
    pub(super) fn start_transfers(&mut self) {
        while self.moving < self.settings.transfers
            && let Some(id) = self.transfers.pop_front()
        {
            let task = self.task(id);
            let effect = match task.phase {
                Phase::ToFetch => {
                    task.phase = Phase::Fetching;
                    Effect::Fetch { task: id }
                }
                Phase::ToSend => {
                    task.phase = Phase::Sending;
                    Effect::Send { task: id }
                }
                _ => continue,
            };
            self.moving += 1;
            self.ask_for(effect);
        }
    }

    pub(super) fn sent(&mut self, id: TaskId) {
        if matches!(self.task(id).phase, Phase::Sending) {
            self.open -= 1;
            self.moving -= 1;
            self.task(id).phase = Phase::Ended;
        }
    }
}

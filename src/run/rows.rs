//! What is written down of a step that has ended.

use crate::cache::events::RunEvent;
use crate::cache::failure::Failure;
use crate::cache::runs::{StageReport, Status};
use crate::run::driver::Driver;
use crate::run::scheduler::{StepEnd, StepId, Why};
use crate::session::metrics::metrics;
use crate::text::counted;

impl Driver<'_> {
    pub(super) fn end(&mut self, step: StepId, end: StepEnd) {
        self.steps[step.0].end = Some(end);
        let row = self.row(step.0, end);
        self.stream.emit(RunEvent::StageEnded { row });
    }

    fn row(&self, i: usize, end: StepEnd) -> StageReport {
        let (state, step) = (&self.steps[i], &self.session.graph.steps[i]);
        // Of a step that was only looked at, nothing is told.
        let looked = matches!(end, StepEnd::Skipped(_)) && !state.begun;
        let done = if looked { Vec::new() } else { self.done(i) };
        let mut failures = state.failures.clone();
        failures.sort_by(|a, b| a.task.cmp(&b.task));
        let known = self.known[i].as_ref().filter(|_| end.is_good());
        let reason = match end {
            StepEnd::Replaced => {
                let replaced = known.map(|known| known.replaced.join(", ")).unwrap_or_default();
                format!("--with gives {replaced}")
            }
            StepEnd::Ran { ran, all } if self.session.graph.steps[i].mapped() => {
                format!(
                    "{ran} of {}: {}",
                    counted(
                        all,
                        if self.session.graph.steps[i].shards.is_some() { "shard" } else { "entry" }
                    ),
                    state.reason
                )
            }
            StepEnd::Failed => {
                // To be tried again later is not the reason where something failed for good.
                let for_good = failures.iter().find(|failed| failed.how.failure != Failure::TryAgain);
                let failed = for_good.or(failures.first());
                failed.map(|failed| failed.how.to_string()).unwrap_or_default()
            }
            StepEnd::Skipped(Why::Before) => "a stage before it failed".into(),
            StepEnd::Skipped(Why::Another) => "another stage failed".into(),
            StepEnd::Skipped(Why::Stopped) => "the run was stopped".into(),
            StepEnd::Cached | StepEnd::Restored | StepEnd::Fetched | StepEnd::Ran { .. } => {
                state.reason.clone()
            }
        };
        StageReport {
            stage: self.session.graph.steps[i].id.clone(),
            status: status(end),
            reason,
            keys: done.iter().map(|(task, _)| task.key).collect(),
            seconds: (!done.is_empty()).then(|| done.iter().map(|(_, outcome)| outcome.seconds).sum()),
            processes: done.iter().find_map(|(_, outcome)| outcome.processes),
            outputs: known.map(|known| known.outputs.clone()).unwrap_or_default(),
            reported: done
                .iter()
                .find_map(|(_, outcome)| Some(outcome.ran.as_ref()?.reported.clone()))
                .unwrap_or_default(),
            failures,
            variants: step.variants.clone(),
            params: done.first().map(|(task, _)| task.action.params.clone()).unwrap_or_default(),
            metrics: known.map(|known| metrics(self.session, step, known)).unwrap_or_default(),
        }
    }
}

fn status(end: StepEnd) -> Status {
    match end {
        StepEnd::Replaced => Status::Replaced,
        StepEnd::Cached => Status::Cached,
        StepEnd::Restored => Status::Restored,
        StepEnd::Fetched => Status::Fetched,
        StepEnd::Ran { .. } => Status::Ran,
        StepEnd::Failed => Status::Failed,
        StepEnd::Skipped(_) => Status::Skipped,
    }
}

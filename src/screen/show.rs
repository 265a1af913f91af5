//! How each event of a run is shown.

use super::Screen;
use super::colour::Colour;
use crate::cache::events::{Direction, RunEvent, TaskEnd};
use crate::cache::failure::{TaskFailure, list};
use crate::cache::places::Places;
use crate::text::{duration, size};
use std::path::Path;

/// What is said of something that changed after the run began.
pub const ANEW: &str = "changed since the run began; going on with what is there now";
/// This many last lines of the log of a failed task are shown.
const LOG_LINES: usize = 20;

impl Screen {
    /// Shows what happened.
    pub fn show(&mut self, event: &RunEvent) {
        match event {
            RunEvent::AttemptEnded { .. } | RunEvent::StageStarted { .. } => {}
            RunEvent::RunStarted { stages, .. } => self.begin(stages.len()),
            RunEvent::StageEnded { .. } => self.ended(),
            RunEvent::RunEnded { .. } => self.close(),
            RunEvent::TaskStarted { task, reasons, gpus, .. } => {
                self.start(task, &reasons.join(", "));
                self.uses(task, gpus);
            }
            RunEvent::TaskQueued { task } => self.queued(task),
            RunEvent::TaskRuns { task } => self.runs(task),
            RunEvent::TaskRetried { task, attempt, attempts, after } => {
                self.say(&format!("{task}: {after}; try {attempt} of {attempts}"));
            }
            RunEvent::Progress { task, done, total, unit } => self.progress(task, *done, *total, unit),
            RunEvent::Metrics { task, values } => self.metrics(task, values),
            RunEvent::LogLine { task, text } => self.log_line(task, text),
            RunEvent::Message { of: Some(of), text } => self.say(&format!("{of}: {text}")),
            RunEvent::Message { of: None, text } => self.say(text),
            RunEvent::Warning { text } => self.warn(text, Colour::Yellow),
            RunEvent::TaskEnded { task, end } => self.end(task, end),
            RunEvent::TransferProgress { task, direction, done, total } => {
                let (name, what) = transfer(task, *direction);
                if !self.has(&name) {
                    self.start(&name, &format!("{what} {}", size(*total)));
                }
                self.progress(&name, *done, *total, "bytes");
            }
            RunEvent::TransferEnded { task, direction, bytes } => {
                self.finish_quietly(&transfer(task, *direction).0);
                match (direction, bytes.map(size)) {
                    (Direction::Fetch, Some(size)) => {
                        self.say(&format!("{task}: fetched {size} from the cache"))
                    }
                    (Direction::Send, Some(size)) => self.say(&format!("{task}: sent {size} to the cache")),
                    (_, None) => {}
                }
            }
        }
    }

    fn end(&mut self, task: &str, end: &TaskEnd) {
        match end {
            TaskEnd::Made { seconds, earlier } => {
                let earlier = earlier.map(|earlier| {
                    format!(", {} of it in earlier attempts, from which it went on", duration(earlier))
                });
                let line = format!("done in {}{}", duration(*seconds), earlier.unwrap_or_default());
                self.finish(task, &line);
            }
            TaskEnd::Elsewhere => self.finish(task, "done by another runner"),
            TaskEnd::Anew { parts } => self.finish(task, &format!("{} {ANEW}", list(parts))),
            TaskEnd::Failed(failed) => self.failed(task, failed),
        }
    }

    fn failed(&mut self, task: &str, failed: &TaskFailure) {
        self.finish_quietly(task);
        self.warn(&format!("{task}: {failed}"), Colour::Red);
        if let Some(log) = &failed.log {
            self.show_log(log);
        }
    }

    /// Shows the end of a log and where the whole of it is.
    fn show_log(&self, log: &Path) {
        let text = std::fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(16_384)..]);
        let text = Places::beside(log).shown(&text);
        let lines: Vec<_> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            self.insist(&format!("  | {line}"));
        }
        self.insist(&format!("  the whole log: {}", log.display()));
    }
}

/// The name of a transfer, which is another one than that of the task where both may be shown; and what it does.
fn transfer(task: &str, direction: Direction) -> (String, &'static str) {
    match direction {
        Direction::Fetch => (task.into(), "fetching"),
        Direction::Send => (format!("{task} (sending)"), "sending"),
    }
}

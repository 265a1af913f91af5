//! The journal of a run: what happens in it, in a file beside its logs, for whoever looks on from another process.
//!
//! How far a task is stands in its own events, and what it says in its log; here is what the runner alone knows. The runner
//! holds the file's lock: a journal without an end that nobody holds is that of a runner which is gone.

use crate::cache::events::RunEvent;
use crate::run::stream::Listener;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use store::lock::{self, Lock};

/// A line of a journal.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line<E> {
    /// Seconds since 1970.
    pub time: f64,
    #[serde(flatten)]
    pub event: E,
}

/// An event, with the time.
pub fn line(event: &RunEvent) -> serde_json::Result<String> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    serde_json::to_string(&Line { time, event }).map(|line| line + "\n")
}

/// Whether nobody holds a journal that something was written to.
pub fn is_left(journal: &Path) -> bool {
    let Ok(file) = File::open(journal) else { return true };
    file.metadata().is_ok_and(|meta| meta.len() > 0)
        && flock(&file, FlockOperation::NonBlockingLockShared).is_ok()
}

/// Writes the journal of a run from when anything more happens in it than looking. A run goes on where it cannot be written.
pub fn keep(path: PathBuf) -> Listener {
    let mut journal = Journal { path, before: String::new(), file: None, broken: false };
    Box::new(move |event| journal.take(event))
}

struct Journal {
    path: PathBuf,
    /// What happened before it was begun.
    before: String,
    file: Option<Lock>,
    broken: bool,
}

impl Journal {
    fn take(&mut self, event: &RunEvent) {
        // A task's own files say these.
        let elsewhere =
            matches!(event, RunEvent::Progress { .. } | RunEvent::Metrics { .. } | RunEvent::LogLine { .. });
        if elsewhere || self.broken {
            return;
        }
        let Ok(line) = line(event) else { return };
        if self.file.is_none() {
            self.before += &line;
            let begins = matches!(event, RunEvent::TaskStarted { .. } | RunEvent::TransferProgress { .. });
            if !begins {
                return;
            }
            self.file = lock::attempt(&self.path, false).ok().flatten();
            let before = std::mem::take(&mut self.before);
            return self.write(&before);
        }
        self.write(&line);
    }

    fn write(&mut self, text: &str) {
        let written = self.file.as_mut().map(|lock| lock.0.write_all(text.as_bytes()));
        // Half a line would make the next one unreadable.
        self.broken = !matches!(written, Some(Ok(())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::events::TaskEnd;

    #[test]
    fn a_run_that_only_looks_has_no_journal_and_one_that_works_has_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/r/run.jsonl");
        let mut journal = keep(path.clone());
        journal(&RunEvent::Warning { text: "first".into() });
        assert!(!path.exists());
        let started = RunEvent::TaskStarted {
            task: "t".into(),
            stage: "t".into(),
            key: None,
            reasons: Vec::new(),
            gpus: Vec::new(),
            processes: None,
            log: "l".into(),
        };
        journal(&started);
        journal(&RunEvent::Progress { task: "t".into(), done: 1, total: 2, unit: "x".into() });
        let ended =
            RunEvent::TaskEnded { task: "t".into(), end: TaskEnd::Made { seconds: 1.0, earlier: None } };
        journal(&ended);
        let text = std::fs::read_to_string(&path).unwrap();
        let events: Vec<RunEvent> =
            text.lines().map(|line| serde_json::from_str::<Line<RunEvent>>(line).unwrap().event).collect();
        assert_eq!(events, [RunEvent::Warning { text: "first".into() }, started, ended]);
        assert!(lock::attempt(&path, true).unwrap().is_none(), "it is held");
        drop(journal);
        assert!(lock::attempt(&path, true).unwrap().is_some());
    }
}

//! Following what a running stage reports: the events it writes, and the last line of its log while it writes none.

use crate::cache::events::RunEvent;
use crate::cache::metrics::parse;
use crate::cache::places::Places;
use crate::text::last_line;
use stage::Event;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

/// No more than so many bytes are read at a time: a stage that floods its events does not flood our memory.
const MOST: usize = 1 << 20;

/// The files of an attempt that grow.
pub struct Tail {
    events: PathBuf,
    /// Bytes of the events that were read.
    at: u64,
    log: PathBuf,
    /// Where its outputs will lie.
    places: Places,
    /// It wrote an event, so its log is its own affair.
    heard: bool,
    /// The last line of the log as it was told.
    last: Option<String>,
}

impl Tail {
    /// From their beginning.
    pub fn new(events: PathBuf, log: PathBuf, places: Places) -> Self {
        Self { events, at: 0, log, places, heard: false, last: None }
    }

    /// What is new of a task.
    pub fn read(&mut self, task: &str) -> Vec<RunEvent> {
        let lines = self.lines();
        self.heard |= !lines.is_empty();
        // A line of another shape is for a newer runner.
        let events = lines.iter().filter_map(|line| parse::<Event>(line.as_bytes()).ok());
        let mut events: Vec<RunEvent> = events.filter_map(|event| self.of_task(task, event)).collect();
        if !self.heard
            && let Some(text) = last_line(&self.log).map(|line| self.places.shown(&line))
            && self.last.as_ref() != Some(&text)
        {
            self.last = Some(text.clone());
            events.push(RunEvent::LogLine { task: task.into(), text });
        }
        events
    }

    /// The new whole lines.
    fn lines(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = File::open(&self.events).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.at))?;
            file.take(MOST as u64).read_to_end(&mut bytes)
        });
        if read.is_err() {
            return Vec::new();
        }
        let whole = match bytes.iter().rposition(|b| *b == b'\n') {
            Some(last) => last + 1,
            None if bytes.len() >= MOST => bytes.len(),
            None => 0,
        };
        self.at += whole as u64;
        String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_string).collect()
    }

    fn of_task(&self, task: &str, event: Event) -> Option<RunEvent> {
        let task = task.to_string();
        Some(match event {
            // They are read when it has ended, for its record.
            Event::Facts { .. } => return None,
            Event::Progress { done, total, unit } => RunEvent::Progress { task, done, total, unit },
            Event::Metrics { values, .. } => RunEvent::Metrics { task, values },
            Event::Message { text } => RunEvent::Message { of: Some(task), text: self.places.shown(&text) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_shown_until_there_are_events() {
        let folder = tempfile::tempdir().unwrap();
        let (events, log) = (folder.path().join("events"), folder.path().join("log"));
        let mut tail = Tail::new(events.clone(), log.clone(), Places::default());
        assert_eq!(tail.read("t"), []);
        std::fs::write(&log, "one\ntwo\n").unwrap();
        let (task, text) = ("t".to_string(), "two".to_string());
        assert_eq!(tail.read("t"), [RunEvent::LogLine { task, text }]);
        assert_eq!(tail.read("t"), [], "it did not change");
        let whole = r#"{"event": "progress", "done": 1, "total": 2, "unit": "steps"}"#;
        std::fs::write(&events, format!("{whole}\nno json\n{{\"event\": \"mess")).unwrap();
        let (task, unit) = ("t".to_string(), "steps".to_string());
        assert_eq!(tail.read("t"), [RunEvent::Progress { task, done: 1, total: 2, unit }]);
        // Of a line with a number that is none, the others count.
        let other = r#"{"event": "metrics", "step": 1, "values": {"loss": NaN, "lr": 0.5}}"#;
        std::fs::write(&events, format!("{whole}\nno json\n{other}\n")).unwrap();
        let values = serde_json::json!({"loss": "NaN", "lr": 0.5}).as_object().unwrap().clone();
        assert_eq!(tail.read("t"), [RunEvent::Metrics { task: "t".into(), values }]);
        std::fs::write(&log, "three\n").unwrap();
        assert_eq!(tail.read("t"), []);
    }
}

//! Following what a running stage reports, from its worker's thread to the screen.

use crate::engine::contract::Note;
use crate::screen::Screen;
use crate::text::last_line;
use stage::Event;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};

/// The reading end.
pub struct Events {
    notes: Receiver<Note>,
    tail: Option<Tail>,
    log: Option<PathBuf>,
    heard: bool,
}

impl Events {
    /// Both ends.
    pub fn new() -> (Self, Sender<Note>) {
        let (sender, notes) = mpsc::channel();
        (Self { notes, tail: None, log: None, heard: false }, sender)
    }

    /// Brings the screen up to date.
    pub fn show(&mut self, stage: &str, screen: &mut Screen) {
        while let Ok(note) = self.notes.try_recv() {
            match note {
                Note::Follow(events, log) => {
                    self.tail = Some(Tail { path: events, at: 0 });
                    self.log = Some(log);
                }
                Note::Say(text) => screen.message(stage, &text, true),
                Note::Begin(line) => {
                    self.heard = true;
                    screen.start(stage, &line);
                }
                Note::Progress(done, total) => screen.progress(stage, done, total, "bytes"),
            }
        }
        let lines = self.tail.as_mut().map(Tail::lines).unwrap_or_default();
        for line in lines {
            self.heard = true;
            match serde_json::from_str::<Event>(&line) {
                Ok(Event::Progress { done, total, unit }) => screen.progress(stage, done, total, &unit),
                Ok(Event::Metrics { values, .. }) => screen.metrics(stage, &values),
                Ok(Event::Message { text }) => screen.message(stage, &text, true),
                // A line of another shape is for a newer runner.
                Err(_) => {}
            }
        }
        if !self.heard
            && let Some(line) = self.log.as_ref().and_then(last_line)
        {
            screen.message(stage, &line, false);
        }
    }
}

/// The new whole lines of a growing file.
struct Tail {
    path: PathBuf,
    at: u64,
}

impl Tail {
    fn lines(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.at))?;
            // A stage that floods its events does not flood our memory.
            file.take(1 << 20).read_to_end(&mut bytes)
        });
        if read.is_err() {
            return Vec::new();
        }
        let whole = match bytes.iter().rposition(|b| *b == b'\n') {
            Some(last) => last + 1,
            None if bytes.len() >= 1 << 20 => bytes.len(),
            None => 0,
        };
        self.at += whole as u64;
        String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_string).collect()
    }
}

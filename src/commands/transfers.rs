//! What `pull` and `push` share.

use super::output::{print, print_json};
use crate::cache::remote::{Progress, Remote};
use crate::cli::Global;
use crate::engine::stop::Stop;
use crate::error::{Error, Result};
use crate::screen::Screen;
use crate::session::Session;
use crate::text::{size, table};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};

/// The cache of a session, which these commands cannot do without.
pub fn remote(session: &mut Session) -> Result<Remote> {
    session.remote.take().ok_or_else(|| Error::NoCache)
}

/// What became of one result.
#[derive(Debug, Serialize)]
pub struct Moved {
    stage: String,
    /// `fetched`, `here`, `not-there`, `unknown`; `sent`, `there`, `not-done`, `dropped`.
    state: &'static str,
    bytes: u64,
}

impl Moved {
    pub fn new(stage: &str, state: &'static str, bytes: u64) -> Self {
        Self { stage: stage.into(), state, bytes }
    }
}

/// Prints what became of all.
pub fn list(global: &Global, moved: &[Moved]) -> Result<()> {
    if global.json {
        return print_json(&moved);
    }
    let words = |state: &str| match state {
        "not-there" => "not in the cache".to_string(),
        "unknown" => "a stage before it is not here".to_string(),
        "there" => "in the cache already".to_string(),
        "not-done" => "not done".to_string(),
        "dropped" => "done, but its contents were dropped".to_string(),
        state => state.to_string(),
    };
    let bytes = |m: &Moved| if m.bytes == 0 { String::new() } else { size(m.bytes) };
    let rows = moved.iter().map(|m| vec![m.stage.clone(), words(m.state), bytes(m)]);
    print(&table(&rows.collect::<Vec<_>>()))
}

/// The screen and the wish to stop, shared by the transfers of a command.
pub struct Console {
    screen: Mutex<Screen>,
    stop: Arc<Stop>,
    what: &'static str,
}

impl Console {
    pub fn new(what: &'static str) -> Result<Self> {
        Ok(Self { screen: Mutex::new(Screen::new(false)), stop: Stop::on_signals()?, what })
    }

    /// Whether a person wants it to end.
    pub fn asked_to_stop(&self) -> bool {
        self.stop.asked()
    }

    /// The view of one result's transfer.
    pub fn about<'a>(&'a self, label: &'a str) -> impl Progress + 'a {
        About { console: self, label }
    }
}

struct About<'a> {
    console: &'a Console,
    label: &'a str,
}

impl Progress for About<'_> {
    fn moved(&self, done: u64, total: u64) {
        let mut screen = self.console.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.track(self.label, self.console.what, done, total);
    }

    fn say(&self, text: &str) {
        self.console.screen.lock().unwrap_or_else(PoisonError::into_inner).say(text);
    }

    fn stopped(&self) -> bool {
        self.console.stop.asked()
    }
}

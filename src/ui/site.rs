//! What all parts of the server share: the study as it was last looked at, where its steps stand, and who listens.

use crate::ui::curves::Curves;
use crate::ui::growing::{Begun, Files};
use crate::ui::journals::Live;
use crate::ui::known::Known;
use crate::ui::past::Past;
use crate::ui::state::State;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use study::{Choice, hidden};
use tokio::sync::broadcast;

/// So many messages may wait for a slow browser; one that misses some asks for everything again.
const WAITING: usize = 256;

/// Something that browsers are told.
#[derive(Clone, Debug)]
pub struct Message {
    pub event: &'static str,
    /// JSON in one line.
    pub data: Arc<str>,
}

/// What the page shows now.
#[derive(Clone)]
pub struct Now {
    pub known: Arc<Known>,
    /// Where each step stands, with what runs and what ran last.
    pub states: Arc<Vec<State>>,
    pub past: Arc<Past>,
    /// The runs that are under way, and those whose runner went away without an end.
    pub live: Vec<Live>,
    pub lost: Vec<Live>,
    /// Of each step the task that a run began last.
    pub begun: Arc<HashMap<String, Begun>>,
    /// Why the study file cannot be read as it is now.
    pub error: Option<String>,
    /// Raised with every change.
    pub version: u64,
}

/// See the module.
pub struct Site {
    pub choice: Choice,
    /// It is written as files: what is large is left out.
    pub export: bool,
    pub curves: Curves,
    /// Logs of tasks that have not ended.
    pub growing: Files,
    now: RwLock<Now>,
    messages: broadcast::Sender<Message>,
}

impl Site {
    /// One that nobody listens to yet.
    pub fn new(choice: Choice, export: bool, known: Known) -> Self {
        let (states, known) = (Arc::new(known.states.clone()), Arc::new(known));
        let now = Now {
            known,
            states,
            past: Arc::default(),
            live: Vec::new(),
            lost: Vec::new(),
            begun: Arc::default(),
            error: None,
            version: 1,
        };
        let (curves, growing) = (Curves::default(), Files::default());
        let messages = broadcast::Sender::new(WAITING);
        Self { choice, export, curves, growing, now: RwLock::new(now), messages }
    }

    /// What is shown now.
    pub fn now(&self) -> Now {
        self.read().clone()
    }

    /// Raises the version, changes something, and says which version it is now.
    pub fn change(&self, change: impl FnOnce(&mut Now)) -> u64 {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        now.version += 1;
        change(&mut now);
        now.version
    }

    /// The number of what is shown now.
    pub fn version(&self) -> u64 {
        self.read().version
    }

    fn read(&self) -> RwLockReadGuard<'_, Now> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody who listens.
    pub fn tell(&self, event: &'static str, data: &impl Serialize) {
        if let Ok(value) = serde_json::to_value(data) {
            let data = clean(value).to_string().into();
            // Nobody listens: nobody is told.
            let _ = self.messages.send(Message { event, data });
        }
    }

    /// Listens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Message> {
        self.messages.subscribe()
    }
}

/// A value without what authorises somebody, in whatever text it stands.
pub fn clean(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(hidden(&text).into_owned()),
        Value::Array(values) => values.into_iter().map(clean).collect(),
        Value::Object(values) => {
            values.into_iter().map(|(name, value)| (hidden(&name).into_owned(), clean(value))).collect()
        }
        value => value,
    }
}

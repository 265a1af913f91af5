//! Where a step stands, as the page is told.

use serde::Serialize;

/// In one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Is {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    Cached,
    ToRun,
    /// It is decided when others are done.
    Waiting,
    /// In the queue of a cluster.
    Queued,
    Running,
    Failed,
    Skipped,
    /// `--with` stands in for it.
    Replaced,
    Ran,
    Fetched,
    Restored,
}

/// Where a step stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct State {
    pub is: Is,
    /// Why it runs, ran or failed.
    pub reason: String,
    /// The run that it was last seen in.
    pub run: Option<String>,
    pub seconds: Option<f64>,
    /// Seconds since 1970, while it runs.
    pub started: Option<u64>,
    pub devices: Vec<String>,
    /// Of a mapped step: all, done, running, failed.
    pub tasks: Option<[usize; 4]>,
    pub progress: Option<Progress>,
    /// The last lines of its log.
    pub last: Option<Vec<String>>,
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Progress {
    pub task: String,
    pub done: u64,
    pub total: u64,
    pub unit: String,
    /// A second.
    pub rate: Option<f64>,
    /// Seconds.
    pub left: Option<f64>,
}

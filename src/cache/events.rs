//! What happens in a run, one value after another: all that shows a run or writes it down is made from this stream.

use crate::cache::facts::Facts;
use crate::cache::failure::{Change, TaskFailure};
use crate::cache::runs::{Asked, AttemptReport, StageReport};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;
use store::Key;
use study::Processes;

/// Something that happened in a run. A task is called by its stage, with the entry where there are several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum RunEvent {
    /// The first one.
    RunStarted {
        run: String,
        study: String,
        /// Seconds since 1970.
        started: u64,
        /// The stages that it is about, each after those it reads from.
        stages: Vec<String>,
        /// What a person calls it, and says of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// What the command line asked for.
        asked: Asked,
    },
    /// A stage has work to do: how many tasks it has, and how many of them have results already. What is told last of a stage
    /// counts.
    StageStarted { stage: String, tasks: usize, cached: usize },
    /// A task begins to run.
    TaskStarted {
        task: String,
        stage: String,
        /// Of its action; the build has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Key>,
        /// Why it has to run.
        reasons: Vec<String>,
        /// As `CUDA_VISIBLE_DEVICES` names them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gpus: Vec<String>,
        /// As how many processes, where that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        processes: Option<Processes>,
        log: PathBuf,
    },
    /// It waits in the queue of a cluster.
    TaskQueued { task: String },
    /// Its job is on a node.
    TaskRuns { task: String },
    /// Another attempt at it begins.
    TaskRetried { task: String, attempt: u32, attempts: u32, after: TaskFailure },
    /// An attempt at a task has ended.
    AttemptEnded { report: AttemptReport },
    /// It is so far.
    Progress { task: String, done: u64, total: u64, unit: String },
    /// It measured something.
    Metrics { task: String, values: Map<String, Value> },
    /// The last line of its log has changed, and it says nothing else.
    LogLine { task: String, text: String },
    /// Something for people to read, of a task, a stage or the run.
    Message {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        text: String,
    },
    /// Something is wrong that does not keep the run from going on.
    Warning { text: String },
    /// It ended.
    TaskEnded {
        task: String,
        #[serde(flatten)]
        end: TaskEnd,
    },
    /// A result is on its way between the store and the shared cache; bytes that are moved, of all.
    TransferProgress { task: String, direction: Direction, done: u64, total: u64 },
    /// It has arrived, with so many bytes in its outputs, or there was nothing to be moved.
    TransferEnded { task: String, direction: Direction, bytes: Option<u64> },
    /// All tasks of a stage have ended. What is told last of a stage counts.
    StageEnded { row: StageReport },
    /// The last one.
    RunEnded {
        /// Seconds since 1970.
        finished: u64,
        /// Where it was, where anything more happened than looking.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        facts: Option<Facts>,
        /// Why it could not go on, where that was no task's failure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "end")]
pub enum TaskEnd {
    /// Its program ran for so many seconds.
    Made {
        seconds: f64,
        /// How long of that in attempts before, from which this one went on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        earlier: Option<f64>,
    },
    /// Another runner made its result meanwhile.
    Elsewhere,
    /// What it runs or reads changed before it could start; its stage is looked at anew.
    Anew {
        parts: Vec<Change>,
    },
    Failed(TaskFailure),
}

/// Which way a result travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    Fetch,
    Send,
}

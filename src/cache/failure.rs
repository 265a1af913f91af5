//! Why a task gave no result: a value. Words are made of it only where a person reads them.

use crate::text::duration;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// The exit code by which a program asks to be run again later.
pub const TRY_AGAIN: u8 = 75;

/// Why a task gave no result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Failure {
    /// Its program ended with this exit code.
    Exit { code: u8 },
    /// Its program could not be started.
    NotStarted,
    /// Its program asks to be run again later: exit code 75.
    TryAgain,
    /// Its program was killed.
    Signal { signal: u8 },
    /// It took longer than it may; how many seconds that is, where the study says it.
    Timeout { seconds: Option<f64> },
    /// Its program ended well, but did not write this output.
    NoOutput { name: String },
    /// These changed while it ran.
    Changed { parts: Vec<Change> },
    /// These changed again and again before it could start.
    Unsteady { parts: Vec<Change> },
    /// The run was stopped.
    Stopped,
    /// It took so many seconds the last time, only its program changed, and nobody said yes.
    Refused { seconds: f64, stage: String },
    /// It asks for more GPUs than there are.
    NoRoom { gpus: usize, there: usize },
    /// The runner could not do its part.
    Error { text: String },
    /// Written down by a newer runner.
    #[serde(other)]
    Other,
}

/// How a task failed, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskFailure {
    pub failure: Failure,
    /// The disk of the store was full: where that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<PathBuf>,
    /// What the program said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
}

/// Something that an action runs or reads, and which is not what the action says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub kind: PartKind,
    pub name: String,
    /// Which file of a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// It is as it was again.
    #[serde(default)]
    pub put_back: bool,
}

/// What of an action.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartKind {
    Program,
    /// A file that its command names.
    File,
    Input,
}

impl Failure {
    /// Whether another attempt may do better.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::TryAgain | Self::Signal { .. } | Self::Timeout { .. })
    }

    /// Whether the log of the task tells more.
    pub fn has_log(&self) -> bool {
        match self {
            Self::Exit { .. } | Self::NotStarted | Self::TryAgain | Self::Signal { .. } => true,
            Self::Timeout { .. } | Self::NoOutput { .. } | Self::Changed { .. } => true,
            Self::Unsteady { .. } | Self::Stopped | Self::Refused { .. } | Self::NoRoom { .. } => false,
            Self::Error { .. } | Self::Other => false,
        }
    }
}

/// The end of a sentence that begins with the task's name.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Exit { code } => write!(f, "failed with exit code {code}"),
            Self::NotStarted => write!(f, "could not be started"),
            Self::TryAgain => write!(f, "asks to be run again later (exit code {TRY_AGAIN})"),
            Self::Signal { signal } => write!(f, "killed by signal {signal}"),
            Self::Timeout { seconds: Some(limit) } => write!(f, "stopped after its time limit of {limit} s"),
            Self::Timeout { seconds: None } => write!(f, "stopped at the time limit of its job"),
            Self::NoOutput { name } => {
                write!(f, "failed: it exited with 0 but did not write its output `{name}`")
            }
            Self::Changed { parts } => match parts.as_slice() {
                [first, rest @ ..] if rest.len() > 4 => {
                    let more = rest.len();
                    write!(
                        f,
                        "failed: {first} and {more} more changed while it ran; its outputs are not kept"
                    )
                }
                parts => {
                    write!(f, "failed: {} changed while it ran; its outputs are not kept", list(parts))
                }
            },
            Self::Unsteady { parts } => {
                write!(f, "failed: {} changes again and again before it can start", list(parts))
            }
            Self::Stopped => write!(f, "stopped"),
            Self::Refused { seconds, stage } => write!(
                f,
                "not run: it took {} and only its program changed; `--yes` runs it, `pipeline accept {stage}` \
                 keeps its outputs",
                duration(*seconds)
            ),
            Self::NoRoom { gpus, there } => {
                write!(f, "not run: it asks for {gpus} GPUs; this machine has {there}")
            }
            Self::Error { text } => write!(f, "failed: {text}"),
            Self::Other => write!(f, "failed"),
        }
    }
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.failure)?;
        match &self.full {
            Some(path) => write!(f, "; the disk of {} is full", path.display()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let whose = if self.kind == PartKind::Input { "its input " } else { "" };
        let file = self.file.as_ref().map(|file| format!(" ({file})")).unwrap_or_default();
        let back = if self.put_back { " (and put back, or written again as it was)" } else { "" };
        write!(f, "{whose}`{}`{file}{back}", self.name)
    }
}

/// All of them, for people.
pub fn list(changes: &[Change]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_written_down_as_what_it_is() {
        let pairs = [
            (Failure::Exit { code: 3 }, r#"{"kind":"exit","code":3}"#),
            (Failure::TryAgain, r#"{"kind":"try-again"}"#),
            (Failure::Timeout { seconds: Some(0.5) }, r#"{"kind":"timeout","seconds":0.5}"#),
        ];
        for (failure, json) in pairs {
            assert_eq!(serde_json::to_string(&failure).unwrap(), json);
            assert_eq!(serde_json::from_str::<Failure>(json).unwrap(), failure);
        }
        assert_eq!(serde_json::from_str::<Failure>(r#"{"kind":"flood","m":2}"#).unwrap(), Failure::Other);
    }

    #[test]
    fn a_failure_reads_like_the_end_of_a_sentence() {
        let change = |kind, name: &str| Change { kind, name: name.into(), file: None, put_back: false };
        let parts = vec![change(PartKind::Input, "data"), change(PartKind::File, "a.sh")];
        assert_eq!(
            Failure::Changed { parts }.to_string(),
            "failed: its input `data`, `a.sh` changed while it ran; its outputs are not kept"
        );
        let mut one = change(PartKind::Input, "data");
        (one.file, one.put_back) = (Some("x/y".into()), true);
        let text = "its input `data` (x/y) (and put back, or written again as it was)";
        assert_eq!(one.to_string(), text);
        let parts = vec![change(PartKind::Program, "p"); 6];
        let text = "failed: `p` and 5 more changed while it ran; its outputs are not kept";
        assert_eq!(Failure::Changed { parts }.to_string(), text);
    }
}

//! Why a task gave no result: a value. Words are made of it only where a person reads them.

use crate::text::duration;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use store::name;

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
    /// Its program ended well, but did not write this output; what it wrote instead, and where that lies.
    NoOutput {
        name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        wrote: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<PathBuf>,
    },
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
    /// Of several processes, the first that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// What the program said; of several processes, the one that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
}

impl From<Failure> for TaskFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, full: None, rank: None, log: None }
    }
}

/// Something that an action runs or reads, and which is not what the action says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub kind: PartKind,
    pub name: String,
    /// Which files of a folder, where it is known; the first few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// How many more.
    #[serde(default)]
    pub more: usize,
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

/// So many files are named.
const NAMED: usize = 5;

impl Change {
    /// A change of these files, of which the first few are named.
    pub fn of(kind: PartKind, name: &str, files: &[PathBuf]) -> Self {
        let named = files.iter().filter(|path| !path.as_os_str().is_empty()).take(NAMED);
        let named: Vec<String> = named.map(|path| name::text(path.as_os_str())).collect();
        Self {
            kind,
            name: name.into(),
            more: files.len().saturating_sub(NAMED),
            files: named,
            put_back: false,
        }
    }
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
            Self::NoOutput { name, wrote, place } => {
                write!(f, "failed: it exited with 0 but did not write its output `{name}`")?;
                if !wrote.is_empty() {
                    write!(f, "; it wrote {}", wrote.join(", "))?;
                }
                match place {
                    Some(place) => write!(f, ", which lies in {}", place.display()),
                    None => Ok(()),
                }
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
        if let Some(rank) = self.rank {
            write!(f, "rank {rank} ")?;
        }
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
        let more = if self.more > 0 { format!(" and {} more", self.more) } else { String::new() };
        let file =
            if self.files.is_empty() { String::new() } else { format!(" ({}{more})", self.files.join(", ")) };
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
        let change = |kind, name: &str| Change::of(kind, name, &[]);
        let parts = vec![change(PartKind::Input, "data"), change(PartKind::File, "a.sh")];
        assert_eq!(
            Failure::Changed { parts }.to_string(),
            "failed: its input `data`, `a.sh` changed while it ran; its outputs are not kept"
        );
        let mut one = change(PartKind::Input, "data");
        (one.files, one.put_back) = (vec!["x/y".into()], true);
        let text = "its input `data` (x/y) (and put back, or written again as it was)";
        assert_eq!(one.to_string(), text);
        let files: Vec<PathBuf> = (0..7).map(|i| i.to_string().into()).collect();
        let many = Change::of(PartKind::Input, "data", &files).to_string();
        assert_eq!(many, "its input `data` (0, 1, 2, 3, 4 and 2 more)");
        let missing = |wrote: &[&str], place: Option<&str>| Failure::NoOutput {
            name: "o".into(),
            wrote: wrote.iter().map(|w| (*w).into()).collect(),
            place: place.map(PathBuf::from),
        };
        let text = "failed: it exited with 0 but did not write its output `o`";
        assert_eq!(missing(&[], None).to_string(), text);
        let more = format!("{text}; it wrote `o.npz` (3 B), `x` (0 B), which lies in .pipeline/r");
        assert_eq!(missing(&["`o.npz` (3 B)", "`x` (0 B)"], Some(".pipeline/r")).to_string(), more);
        let parts = vec![change(PartKind::Program, "p"); 6];
        let text = "failed: `p` and 5 more changed while it ran; its outputs are not kept";
        assert_eq!(Failure::Changed { parts }.to_string(), text);
    }
}

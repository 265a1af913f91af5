//! What a batch system says of a job, and what that means for whoever waits.

use crate::engine::contract::End;
use crate::engine::error::{Error, Result};

/// What is known of a job.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Seen {
    /// It was not asked about yet.
    #[default]
    Unasked,
    /// The system does not know it, or no longer.
    Unknown,
    Known(Known),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// In the system's own words, as `RUNNING`.
    pub state: String,
    pub verdict: Verdict,
    /// It waits.
    pub pending: bool,
    /// It is on a node.
    pub running: bool,
    /// As `wait` gives it: the exit code in the second byte, a signal in the first.
    pub code: u32,
    /// Why it waits.
    pub reason: String,
}

/// What a state means for whoever waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// It may still run, or run again.
    Open,
    Ended,
    Cancelled,
    Timeout,
    Memory,
    /// The cluster took the node away without starting the job again.
    Again,
    /// It cannot begin, and stays until it is cancelled.
    Stuck,
}

impl Known {
    /// For people.
    pub fn line(&self, id: &str) -> String {
        match self.reason.as_str() {
            "" | "None" => format!("job {id} is {}", self.state.to_lowercase()),
            reason if self.pending => format!("job {id} waits: {reason}"),
            _ => format!("job {id} is {}", self.state.to_lowercase()),
        }
    }

    /// What the end of a job means that wrote no exit code of its own choice.
    pub fn over(&self, id: &str) -> Result<Over> {
        Ok(match self.verdict {
            Verdict::Timeout => Over::End(End::Timeout),
            Verdict::Again => Over::Again(format!("job {id} ended as {}", self.state)),
            Verdict::Memory => Over::End(End::Signal(9)),
            Verdict::Ended if self.code & 127 != 0 => Over::End(End::Signal((self.code & 127) as u8)),
            Verdict::Ended if self.code >> 8 != 0 => Over::End(End::Exit((self.code >> 8) as u8)),
            Verdict::Cancelled => return Err(Error::JobCancelled(id.into())),
            Verdict::Ended | Verdict::Open | Verdict::Stuck => {
                return Err(Error::NoExitCode { id: id.into(), state: self.state.clone() });
            }
        })
    }
}

/// What waiting for a job came to.
pub enum Over {
    End(End),
    /// The cluster took the node away; nothing is wrong with the stage.
    Again(String),
}

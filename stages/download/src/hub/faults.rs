//! What a Hub or its storage refuses, in words.

use crate::cache::Kind;
use crate::http::Fault;
use stage::{BadInput, TryAgain};

/// Why something did not work.
pub enum Refused {
    /// Perhaps it does when tried again.
    Server(Fault),
    /// The fault lies elsewhere.
    Here(anyhow::Error),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Server(fault)
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::Here(error)
    }
}

impl From<BadInput> for Refused {
    fn from(error: BadInput) -> Self {
        Self::Here(error.into())
    }
}

/// A fault of the Hub in words: the caller's (exit code 2) or one that may pass (75).
pub fn explain(fault: &Fault, what: &str, kind: Kind, revision: &str, granted: bool) -> anyhow::Error {
    let noun = kind.noun();
    let folder = if kind == Kind::Dataset { "datasets/" } else { "" };
    let name = what.split('/').take(2).collect::<Vec<_>>().join("/");
    match fault {
        // The Hub sends the reader on to its storage by a signed link that is good for a while.
        Fault::Status(code @ (401 | 403)) if granted => TryAgain(format!(
            "{noun} {what}: the Hub shows the file, but its storage answers {code}, as when a link has expired; run again to \
             go on where it stopped"
        ))
        .into(),
        Fault::Status(401 | 403) => BadInput(format!(
            "{noun} {what}: no access; if it is gated, accept its terms at https://huggingface.co/{folder}{name} and set \
             HF_TOKEN to a token of that account"
        ))
        .into(),
        Fault::Status(404) => {
            BadInput(format!("{noun} {what}: not found at revision {revision}; check the name and --revision")).into()
        }
        _ => TryAgain(format!("{noun} {what}: {fault}; run again to go on where it stopped")).into(),
    }
}

//! What can go wrong with what actions gave.

use crate::cache::archive::refusal::Refusal;
use crate::cache::remote::error::Unusable;
use std::path::PathBuf;

/// A result of this floor.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that ends an operation on results, archives and shared caches. The texts are one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The shared cache; a run goes on without it.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// An archive is not what it has to be.
    #[error("{}: {why}; nothing was imported", path.display())]
    Refused { path: PathBuf, why: Refusal },
    /// An archive cannot be made of what is no longer there.
    #[error("{output} of {label} is no longer in the store; run it again")]
    Gone { output: String, label: String },
    #[error("the record of run {0} is damaged")]
    DamagedRun(String),
    #[error("`{name}` begins several runs{near}")]
    SeveralRuns { name: String, near: String },
    /// A person wants it to end.
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// Whether it is the user's mistake, not a failure.
    pub fn is_mistake(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::SeveralRuns { .. })
    }
}

impl From<object_store::Error> for Error {
    fn from(e: object_store::Error) -> Self {
        Unusable::from(e).into()
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(e: tokio::task::JoinError) -> Self {
        Unusable::from(e).into()
    }
}

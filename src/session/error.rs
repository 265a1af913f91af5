//! What can go wrong with a study and its store at hand.

use crate::cache;
use crate::cache::remote::error::NoPlace;
use std::io;
use std::path::PathBuf;
use study::Mark;

/// A result of this floor.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that keeps a study from being worked on. The texts are one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Study(#[from] study::Error),
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// Lines that are good one by one.
    #[error("what is ignored: {0}")]
    Ignored(String),
    /// A `--with` of another form.
    #[error("--with {0}: expected stage.output=PATH")]
    With(String),
    #[error("--with {text}: no such file or folder: {path}")]
    WithNothing { text: String, path: String },
    /// A replaced stage has another output that is read and was never made.
    #[error(
        "--with replaces stage {stage}, but {reader} also reads {stage}.{output}, which was never made; \
         add --with {stage}.{output}=PATH"
    )]
    WithTooLittle { stage: String, reader: String, output: String },
    #[error("--cache {0}")]
    NoPlace(#[from] NoPlace),
    #[error("--locked: reading {}: {source}; `pipeline lock` makes it", path.display())]
    NoLockFile { path: PathBuf, source: io::Error },
    #[error("--locked: {} is no lock file: {source}", path.display())]
    NotALockFile { path: PathBuf, source: serde_json::Error },
    #[error("--locked: {} is of version {found}, and this runner knows {known}; make it anew by `pipeline lock`", path.display())]
    OtherLockFile { path: PathBuf, found: u32, known: u32 },
    /// Outputs that are not those of the lock file.
    #[error("not what {} says: {}", path.display(), outputs.join(", "))]
    NotAsLocked { path: PathBuf, outputs: Vec<String> },
}

impl Error {
    /// A mistake in the study file.
    pub fn study(mark: &Mark, text: impl Into<String>) -> Self {
        study::Error::mistake(mark, text).into()
    }

    /// Whether it is the user's mistake, not a failure.
    pub fn is_mistake(&self) -> bool {
        match self {
            Self::Store(e) => e.is_mistake(),
            Self::NotAsLocked { .. } => false,
            Self::Study(e) => !matches!(e, study::Error::Io { .. }),
            Self::Cache(e) => e.is_mistake(),
            Self::Ignored(_)
            | Self::With(_)
            | Self::WithNothing { .. }
            | Self::WithTooLittle { .. }
            | Self::NoPlace(_)
            | Self::NoLockFile { .. }
            | Self::NotALockFile { .. }
            | Self::OtherLockFile { .. } => true,
        }
    }
}

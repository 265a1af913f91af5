//! What can go wrong, and the exit code of each.

use std::io;
use study::Mark;

/// A result of the runner.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that ends a command without success. The texts are one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The study cannot be read, or is wrong.
    #[error(transparent)]
    Study(#[from] study::Error),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted on what.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Something that a run needs is not what it should be.
    #[error("{0}")]
    Run(String),
    /// A shared cache cannot be used.
    #[error("{0}")]
    Cache(String),
    /// One or more stages failed; each has been told of already.
    #[error("{}", failed(.0))]
    Failed(Vec<String>),
    /// One or more stages asked to be run again later, and nothing failed for good.
    #[error("{}", later(.0))]
    TryAgain(Vec<String>),
    /// The user stopped the run.
    #[error("stopped; `pipeline run` goes on from here")]
    Interrupted,
}

fn failed(stages: &[String]) -> String {
    match stages {
        [one] => format!("stage {one} failed"),
        many => format!("stages {} failed", many.join(", ")),
    }
}

fn later(stages: &[String]) -> String {
    match stages {
        [one] => format!("stage {one} asks to be run again later"),
        many => format!("stages {} ask to be run again later", many.join(", ")),
    }
}

impl Error {
    /// A mistake in the study file.
    pub fn study(mark: &Mark, text: impl Into<String>) -> Self {
        study::Error::mistake(mark, text).into()
    }

    /// The exit code: 1 a stage or the runner failed, 2 wrong usage or study file, 75 try again, 130 stopped.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Study(study::Error::Io { .. }) => 1,
            Self::Usage(_) | Self::Study(_) => 2,
            Self::Io { .. } | Self::Store(_) | Self::Run(_) | Self::Cache(_) | Self::Failed(_) => 1,
            Self::TryAgain(_) => 75,
            Self::Interrupted => 130,
        }
    }
}

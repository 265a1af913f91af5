//! What ends a command without success, and the exit code of each.

use crate::cache;
use crate::cache::remote::error::Unusable;
use crate::text::counted;
use crate::{engine, session};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use study::Mark;

/// A result of the runner.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that ends a command without success. The texts are one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Study(#[from] study::Error),
    #[error(transparent)]
    Session(#[from] session::Error),
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// Results, archives and records of runs.
    #[error(transparent)]
    Results(cache::Error),
    /// A shared cache cannot be used.
    #[error(transparent)]
    Cache(Unusable),
    /// One or more stages failed; each has been told of already.
    #[error("{}", failed(.0))]
    Failed(Vec<String>),
    /// Stages that were left out although none before them failed.
    #[error(
        "not run, as what they read is not at hand: {}; run them again with --force, or `pipeline verify`",
        .0.join(", ")
    )]
    NotAtHand(Vec<String>),
    /// One or more stages asked to be run again later, and nothing failed for good.
    #[error("{}", later(.0))]
    TryAgain(Vec<String>),
    /// The user stopped the run.
    #[error("stopped; `pipeline run` goes on from here")]
    Interrupted,
    #[error("a run is going on in this store; try again after it")]
    Busy,
    #[error(
        "{} moved to .pipeline/damaged; the next run makes again what it needs",
        counted(*.0, "damaged file")
    )]
    Damaged(usize),
    #[error(
        "{} left where nothing can be written; where it can, `pipeline verify` moves {} to .pipeline/damaged",
        counted(*.0, "damaged file"),
        if *.0 == 1 { "it" } else { "them" }
    )]
    DamagedThere(usize),
    /// Results without their contents.
    #[error(
        "{} without contents, which {} as absent: `pipeline run` makes again what the study needs, and \
         `pipeline gc` removes the others",
        counted(*.0, "result"),
        if *.0 == 1 { "counts" } else { "count" }
    )]
    Missing(usize),
    #[error("the result of {stage} in run {run} is no longer in the store")]
    Gone { stage: String, run: String },
    #[error("writing to standard output: {0}")]
    Output(#[source] io::Error),
    #[error("encoding JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("rendering the manual page: {0}")]
    Manual(#[source] io::Error),
    /// None of the folders of stage programs has one of this name.
    #[error("no stage program `{name}`{near}; looked in {looked}; `pipeline stage --list` has them all")]
    NoStageProgram { name: String, near: String, looked: String },
    /// None of the folders of stage programs has any.
    #[error("no stage program `{name}`; looked in {looked}; {alone}")]
    NoStagePrograms { name: String, alone: String, looked: String },
    #[error("no shared cache: give one with --cache URL, or as `cache:` in the study")]
    NoCache,
    #[error("{0} is not done; `pipeline run` first")]
    NotDone(String),
    #[error("stage {0} has not run, so nothing after it can be accepted")]
    NotRun(String),
    #[error("{0} has to run first (or be accepted as well)")]
    HasToRun(String),
    #[error("{0} has no outputs that could be accepted")]
    NothingToAccept(String),
    #[error("{0} now has other outputs; it has to run")]
    OtherOutputs(String),
    #[error("there is no run `{name}`, and the study is called `{study}`")]
    NoRun { name: String, study: String },
    #[error("there is neither a run nor a variant `{name}`{near}")]
    NeitherRunNorVariant { name: String, near: String },
    #[error("`{name}` is neither the study, nor a study file, nor a run{near}")]
    NothingToShow { name: String, near: String },
    #[error("there is no run `{name}`{near}; `pipeline runs` has them all")]
    NoSuchRun { name: String, near: String },
    #[error("the table has no column `{name}`, but {all}{near}")]
    NoColumn { name: String, near: String, all: String },
    #[error("--filter {0}: expected a column, one of < <= > >= = != ~, and a value, as fid<10")]
    Filter(String),
    #[error("no such archive: {}", .0.display())]
    NoArchive(PathBuf),
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    #[error("stage {0} has no log: it never ran here")]
    NoLog(String),
    /// A result that came from another store, or whose log is gone.
    #[error("stage {stage} has no log here: it would be that {about}, and is not in this store")]
    LogElsewhere { stage: String, about: String },
    #[error("stage {stage} has no log of rank {rank}: its last run was {}", ranks(*last))]
    NoRank { stage: String, rank: u32, last: u32 },
    #[error("{0} is watched already")]
    Watched(String),
    #[error(
        "{} reads no output that is declared with `stream`; e.g. `outputs: {{checkpoints: {{stream: true}}}}`",
        .0.join(", ")
    )]
    NothingToWatch(Vec<String>),
    #[error("listening on {address}: {source}; another --port may be free")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("serving the page: {0}")]
    Serve(#[source] io::Error),
    #[error("{} holds something that is no page of ours; give --export a new folder", .0.display())]
    NotAPage(PathBuf),
}

fn ranks(last: u32) -> String {
    match last {
        0 => "one process".into(),
        last => format!("of ranks 0 to {last}"),
    }
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

impl From<cache::Error> for Error {
    fn from(e: cache::Error) -> Self {
        match e {
            cache::Error::Unusable(e) => Self::Cache(e),
            cache::Error::Stopped => Self::Interrupted,
            e => Self::Results(e),
        }
    }
}

impl Error {
    /// A mistake in the study file.
    pub fn study(mark: &Mark, text: impl Into<String>) -> Self {
        study::Error::mistake(mark, text).into()
    }

    /// The exit code: 1 a stage or the runner failed, 2 wrong usage or study file, 75 try again, 130 stopped.
    pub fn exit_code(&self) -> u8 {
        let mistake = match self {
            Self::TryAgain(_) => return 75,
            Self::Interrupted => return 130,
            Self::Store(e) => e.is_mistake(),
            Self::Cache(_)
            | Self::Failed(_)
            | Self::NotAtHand(_)
            | Self::Busy
            | Self::Damaged(_)
            | Self::DamagedThere(_)
            | Self::Missing(_)
            | Self::Gone { .. }
            | Self::Output(_)
            | Self::Json(_)
            | Self::Listen { .. }
            | Self::Serve(_)
            | Self::Manual(_) => false,
            Self::Study(e) => !matches!(e, study::Error::Io { .. }),
            Self::Session(e) => e.is_mistake(),
            Self::Engine(e) => e.is_mistake(),
            Self::Results(e) => e.is_mistake(),
            Self::NoStageProgram { .. }
            | Self::NoStagePrograms { .. }
            | Self::NoCache
            | Self::NotDone(_)
            | Self::NotRun(_)
            | Self::HasToRun(_)
            | Self::NothingToAccept(_)
            | Self::OtherOutputs(_)
            | Self::NoRun { .. }
            | Self::NeitherRunNorVariant { .. }
            | Self::NothingToShow { .. }
            | Self::NoColumn { .. }
            | Self::NoSuchRun { .. }
            | Self::Filter(_)
            | Self::NoArchive(_)
            | Self::Exists(_)
            | Self::NoLog(_)
            | Self::LogElsewhere { .. }
            | Self::NoRank { .. }
            | Self::Watched(_)
            | Self::NothingToWatch(_)
            | Self::NotAPage(_) => true,
        };
        if mistake { 2 } else { 1 }
    }
}

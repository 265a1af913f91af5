//! What keeps an attempt from being executed.

use crate::session;
use std::io;
use std::path::PathBuf;

/// A result of this floor.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that ends an attempt before its program does. The texts are one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Session(#[from] session::Error),
    /// A process cannot be started.
    #[error("starting {what}: {source}")]
    Start { what: String, source: io::Error },
    #[error("listening to signals: {0}")]
    Signals(#[source] io::Error),
    /// A thread of ours panicked.
    #[error("stage {label}: {why}")]
    Broken { label: String, why: String },
    #[error("stage {0} has no program")]
    NoProgram(String),
    #[error("input `{input}` of stage {stage} is no longer in the store")]
    Gone { input: String, stage: String },
    #[error("stage {stage} asks for {nodes} nodes, and this machine is one")]
    Nodes { stage: String, nodes: u32 },
    /// A job began whose attempt is not there.
    #[error("no work in {}: was it given up?", .0.display())]
    NoWork(PathBuf),
    /// A batch system did not start the worker of a job on all of its nodes.
    #[error(
        "of {nodes} nodes only {came} began within {seconds} s: the cluster's `submit` is to have ${{job.worker}} started once on each"
    )]
    FewNodes { nodes: u32, came: String, seconds: u64 },
    /// Or on more than them.
    #[error(
        "the job has its {nodes} nodes without {host}; the cluster's `submit` started ${{job.worker}} once more"
    )]
    Surplus { nodes: usize, host: String },
    /// A node of a job is gone.
    #[error("node {0} is gone")]
    NodeGone(String),
    /// sbatch cannot be called.
    #[error("submitting stage {stage} with sbatch: {source}")]
    Submit { stage: String, source: io::Error },
    /// A batch system took no job.
    #[error("{0}")]
    Refused(String),
    #[error("sbatch gave no job id but `{0}`")]
    NoJobId(String),
    #[error("job {0} is no longer known to its batch system and left no exit code")]
    JobForgotten(String),
    #[error(
        "job {id} could not begin, as its node does not see {}; the study, its programs and the runner have to lie where \
         all nodes see them under the same path",
        path.display()
    )]
    Unseen { id: String, path: PathBuf },
    /// The same of a job whose system does not tell why.
    #[error(
        "job {id} never began, and {said}: either the cluster could not start it, or its node does not see {}; the study, \
         its programs and the runner have to lie where all nodes see them under the same path",
        path.display()
    )]
    NotBegun { id: String, said: String, path: PathBuf },
    #[error("job {0} was cancelled, but not by this runner")]
    JobCancelled(String),
    #[error("job {id} ended as {state} and left no exit code")]
    NoExitCode { id: String, state: String },
    /// What became of a job cannot be found out.
    #[error(
        "job {name} of an earlier run may still be there, and its batch system cannot be asked: {why}; ask again where it can, \
         or cancel the job and remove {}",
        folder.display()
    )]
    JobLeft { name: String, folder: PathBuf, why: String },
}

impl Error {
    /// Whether it is the user's mistake, not a failure.
    pub fn is_mistake(&self) -> bool {
        matches!(self, Self::Session(e) if e.is_mistake())
    }
}

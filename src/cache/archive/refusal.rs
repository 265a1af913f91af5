//! Why an archive is not taken in.

use std::io;
use store::Key;
use store::digest::Digest;

/// What is wrong with an archive as a whole, or with its results together.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("not an archive of results, or damaged ({0})")]
    Broken(#[source] io::Error),
    #[error("not an archive of results")]
    NoArchive,
    #[error("made by another version ({found}, not {known})")]
    Version { found: u32, known: u32 },
    #[error("`{}` {why}", name.escape_debug())]
    Entry { name: String, why: Entry },
    #[error("results/{key}: {why}")]
    Result { key: Key, why: String },
    #[error("its lists do not agree on the size of {0}")]
    Disagreement(Digest),
    #[error("{0} is named by no result")]
    Unnamed(Digest),
    #[error("it lacks {0}")]
    Lacks(Digest),
    #[error("the content of {0} is damaged")]
    Content(Digest),
    #[error("the run has a name that no run has")]
    RunName,
    #[error("the run has a stage with a name that no stage has")]
    StageName,
    #[error("its study has a name that no study has")]
    StudyName,
    #[error("the run names results of stage {0} that it does not bring")]
    Missing(String),
}

/// What is wrong with one of its entries.
#[derive(Debug, thiserror::Error)]
pub enum Entry {
    #[error("does not belong into an archive of results")]
    Strange,
    #[error("is damaged")]
    Damaged,
    #[error("is damaged: {0}")]
    Wrong(String),
    #[error("is there twice")]
    Twice,
    #[error("is named by no result")]
    Unnamed,
    #[error("has another size than its list says")]
    Size,
    #[error("is larger than any list or record")]
    TooLarge,
}

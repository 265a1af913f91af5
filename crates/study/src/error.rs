//! What can be wrong with a study, or with what the command line says of one.

use crate::hidden::hidden;
use crate::mark::Mark;
use std::io;
use std::path::PathBuf;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that keeps a study from being read. The texts are one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mistake in the study file, or in an option that changes a value of it.
    #[error("{mark}: {text}")]
    Mistake {
        /// Where.
        mark: Mark,
        /// What, and the way out.
        text: String,
    },
    /// A program that cannot be started for want of a library.
    #[error("{mark}: {} cannot be started, for {library} is not there; {way}", program.display())]
    NoLibrary {
        /// Who asks for it.
        mark: Mark,
        /// The program.
        program: PathBuf,
        /// The library's name.
        library: String,
        /// How it comes there.
        way: String,
    },
    /// There is no such file.
    #[error("no study at {}; name one with --file, or begin one with `pipeline init`", .0.display())]
    NoStudy(PathBuf),
    /// A study of a folder above that is somebody else's.
    #[error(
        "{} belongs to another user, and what it names would run as you; name it with --file if that is meant",
        .0.display()
    )]
    Strange(PathBuf),
    /// The operating system refused something.
    #[error("{verb} {}: {source}", path.display())]
    Io {
        /// What was attempted, like "reading".
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A profile that the study does not have.
    #[error("the study has no profile `{name}`{near}")]
    NoProfile {
        /// As it was given.
        name: String,
        /// What may have been meant.
        near: String,
    },
    /// A variant that the study does not have.
    #[error("the study has no variant `{name}`{near}")]
    NoVariant {
        /// As it was given.
        name: String,
        /// What may have been meant.
        near: String,
    },
    /// A stage that the study does not have.
    #[error("the study has no stage `{name}`{near}")]
    NoStage {
        /// As it was given.
        name: String,
        /// What may have been meant.
        near: String,
    },
    /// A stage that reads every variant, where not all of them are selected.
    #[error("stage {0} reads every variant; ask for them with --variant '*'")]
    NeedsAll(String),
    /// An output that a stage does not have.
    #[error("stage {stage} has no output `{name}`{near}")]
    NoOutput {
        /// The stage.
        stage: String,
        /// As it was given.
        name: String,
        /// What may have been meant.
        near: String,
    },
    /// A reference to an output of another form.
    #[error("`{0}` is not of the form stage.output")]
    NoReference(String),
    /// A `--set` of another form.
    #[error("--set {text}: expected {form}")]
    Set {
        /// As it was given.
        text: String,
        /// The form that it should have.
        form: &'static str,
    },
    /// No variant was selected.
    #[error("there is no study")]
    Nothing,
}

impl Error {
    /// A mistake in the study file.
    pub fn mistake(mark: &Mark, text: impl Into<String>) -> Self {
        // A mistake is told on one line, also when it quotes a text of several.
        let words: String = text.into().split_whitespace().collect::<Vec<_>>().join(" ");
        let words = hidden(&words);
        let short = words.char_indices().nth(400).map_or(words.len(), |(at, _)| at);
        Self::Mistake { mark: mark.clone(), text: words[..short].to_string() }
    }
}

/// `; did you mean `x`?` for the candidate nearest to `word`, or the list of them when it is short.
pub fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<_> = candidates.into_iter().collect();
    match stage::nearest(word, all.iter().copied()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None if all.is_empty() => String::new(),
        None if all.len() <= 12 => format!("; there is {}", all.join(", ")),
        None => String::new(),
    }
}

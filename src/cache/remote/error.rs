//! What can be wrong with a shared cache.

use std::io;
use std::path::PathBuf;

/// A shared cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Making it would fill the local disk whenever a shared one is not mounted.
    #[error("there is no folder {}; make it once", .0.display())]
    NoFolder(PathBuf),
    /// Something that is neither a file nor will be one stands where an object belongs.
    #[error("{} is no file", .0.display())]
    NoObject(PathBuf),
    /// The client cannot be started.
    #[error("starting its client: {0}")]
    Start(#[source] io::Error),
    /// The client gave up.
    #[error("its client failed: {0}")]
    Client(#[from] tokio::task::JoinError),
    /// The object store refused something.
    #[error("{text}")]
    Refused {
        /// On one line.
        text: String,
        source: object_store::Error,
    },
}

/// A text that says no place for a cache.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum NoPlace {
    #[error("`{0}` is no URL: {1}")]
    Url(String, String),
    #[error("`{0}` names no folder")]
    Folder(String),
    #[error("`{0}` is no place for a cache; there is a folder, s3://, gs://, az://, http:// and https://")]
    Scheme(String),
}

impl From<object_store::Error> for Unusable {
    /// The innermost cause says most.
    fn from(source: object_store::Error) -> Self {
        let mut inner: &dyn std::error::Error = &source;
        while let Some(source) = inner.source() {
            inner = source;
        }
        let (outer, inner) = (source.to_string(), inner.to_string());
        let first = outer.split(['\n', '{', '<']).next().unwrap_or_default().trim();
        let words = if outer.contains(&inner) && first.len() >= inner.len() {
            first.to_string()
        } else {
            format!("{}: {inner}", first.split(": ").take(2).collect::<Vec<_>>().join(": "))
        };
        let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
        Self::Refused { text: line.chars().take(300).collect(), source }
    }
}

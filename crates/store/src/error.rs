//! What can go wrong with a store.

use crate::digest::Digest;
use std::io;
use std::path::{Path, PathBuf};

/// A result of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that ends an operation on the store. The texts are one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// There is no store.
    #[error("there is no store at {}: nothing has run here yet", .0.display())]
    NoStore(PathBuf),
    /// Nothing can be written to the store.
    #[error(
        "nothing can be written to {}: {source}; this command writes there, so call it in a copy of the study's folder \
         that is yours to write",
        path.display()
    )]
    Closed {
        /// What could not be made or written.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file system has no locks.
    #[error(
        "locking {}: its file system has no locks ({source}), and without them two runners would spoil each other's work; \
         mount it with locks (NFS: without `nolock`, Lustre: with `flock`), or move the study",
        path.display()
    )]
    NoLocks {
        /// The file that was to be locked.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The store has another layout than this program knows.
    #[error(
        "{} was made by another version (format {found}, not {known}); use that version, or move the folder away",
        path.display()
    )]
    Format {
        /// The store.
        path: PathBuf,
        /// Its version.
        found: String,
        /// Ours.
        known: &'static str,
    },
    /// Something that is neither a file nor a folder, such as a socket.
    #[error("{} is {what}, neither a file nor a folder", path.display())]
    Special {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Folders in folders without an end.
    #[error("{} is nested too deeply; does a link lead in a circle?", .0.display())]
    Depth(PathBuf),
    /// An output is itself a link.
    #[error("{} is a link; an output is a file or a folder", .0.display())]
    OutputIsLink(PathBuf),
    /// An output has a link to something that is not in it.
    #[error("{} is a link that leads out of the output, to {}", path.display(), target.display())]
    LeadsOut {
        /// The link.
        path: PathBuf,
        /// What it says.
        target: PathBuf,
    },
    /// A folder that cannot be made elsewhere.
    #[error("{}: {why}", path.display())]
    Unfit {
        /// The folder.
        path: PathBuf,
        /// What of it cannot be.
        why: String,
    },
    /// A folder whose entries are to be taken one by one has a link among them.
    #[error("{} in {} is a link; a stage maps over files and folders", entry.display(), folder.display())]
    EntryIsLink {
        /// The link's name.
        entry: PathBuf,
        /// Where the folder stands.
        folder: PathBuf,
    },
    /// The manifest of a folder is not there, or damaged.
    #[error("the list of files of {0} is not in the store")]
    NoManifest(Digest),
    /// A folder cannot be made, because something of it is not there.
    #[error("a part of {0} is no longer in the store")]
    NoPart(Digest),
    /// Something was written to while it was taken in.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
}

impl Error {
    /// The same of a folder's entries, where the folder has another name for people.
    #[must_use]
    pub fn of_folder(self, folder: &Path, called: &Path) -> Self {
        match self {
            Self::EntryIsLink { entry, folder: of } if of == folder => {
                Self::EntryIsLink { entry, folder: called.into() }
            }
            Self::Unfit { path, why } => {
                let path = path.strip_prefix(folder).map_or_else(|_| path.clone(), |rest| called.join(rest));
                Self::Unfit { path, why }
            }
            e => e,
        }
    }

    /// Whether it is the user's mistake, not a failure.
    pub fn is_mistake(&self) -> bool {
        matches!(self, Self::NoStore(_))
    }
}

/// Says what was attempted on which path.
pub trait IoContext<T> {
    /// `verb` is like "reading".
    ///
    /// # Errors
    /// The same, with its context.
    fn at(self, verb: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T> {
        self.map_err(|e| Error::Io { verb, path: path.to_path_buf(), source: e.into() })
    }
}

//! The hidden folder beside an output in which it is made.

use crate::error::BadInput;
use crate::place::parent;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The file by which a staging folder is known; held locked while it is written to.
pub(crate) const MARK: &str = "made-by";
/// What the mark says.
pub(crate) const TEXT: &str =
    "A file or folder on its way to its place; where nothing runs any more it can be removed.\n";
/// What is being made, in a staging folder.
pub(crate) const NEW: &str = "new";
/// What is being replaced, in a staging folder, where two names cannot be exchanged at once.
pub(crate) const EARLIER: &str = "earlier";

/// How the name of a staging folder ends.
const ENDING: &str = ".staged";

/// The hidden folder in which what will become `target` is made.
///
/// # Errors
/// Bad input when `target` ends in no name.
pub(crate) fn staging(target: &Path) -> Result<PathBuf> {
    let name = target.file_name().ok_or_else(|| {
        BadInput(format!("{}: ends in no name; name a file or folder to make", target.display()))
    })?;
    Ok(parent(target).join(format!(".{}{ENDING}", name.to_string_lossy())))
}

/// Whether this is a folder that [`Staged`] made, whole or in part.
pub(crate) fn is_staging(folder: &Path) -> bool {
    fs::read(folder.join(MARK)).is_ok_and(|text| TEXT.as_bytes().starts_with(&text))
}

/// Whether this is what [`Staged`] leaves when it is killed at any moment: such a folder, or an empty one of that name, which had
/// no mark yet or none any more.
pub(crate) fn is_left(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let named = name.starts_with('.') && name.ends_with(ENDING);
    is_staging(folder) || named && fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Removes a staging folder, its mark last.
pub(crate) fn remove_staging(folder: &Path) -> io::Result<()> {
    for name in [NEW, EARLIER, MARK] {
        let path = folder.join(name);
        gone(match fs::symlink_metadata(&path) {
            Ok(there) if there.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(e) => Err(e),
        })?;
    }
    gone(fs::remove_dir(folder))
}

/// Whether something is removed, be it by somebody else.
pub(crate) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

//! The study that a folder belongs to: its own, or that of a folder above, as git and cargo look for theirs.

use crate::error::{Error, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The study file of the folder we are in, or of the nearest folder above that has one, as a relative path.
///
/// # Errors
/// When the one above belongs to another user: it would run their programs in our name.
pub fn find(name: &str) -> Result<PathBuf> {
    let own = PathBuf::from(name);
    // Where the folder cannot be told, nothing is above it.
    let here = std::env::current_dir().unwrap_or_default();
    let above = (0..here.components().count()).map(|up| Path::new(&"../".repeat(up)).join(name));
    let Some(found) = above.into_iter().find(|path| path.is_file()) else { return Ok(own) };
    if found == own {
        return Ok(own);
    }
    let owner = std::fs::metadata(&found).map(|meta| meta.uid());
    let us = rustix::process::geteuid().as_raw();
    match owner {
        Ok(owner) if owner == us || owner == 0 => Ok(found),
        _ => Err(Error::Strange(found)),
    }
}

//! Giving a content a second name without a second copy, where the file system can.

use crate::error::{IoContext, Result};
use reflink_copy::reflink;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

/// How files got their second names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Shared blocks, copied on write.
    Reflink,
    /// The same file under two names.
    HardLink,
    /// The bytes, twice.
    Copy,
}

/// The first way that worked in this process; later calls start there. 0 is not known yet.
static WAY: AtomicU8 = AtomicU8::new(0);

/// Puts the content of `from` at `to`, which must not exist, as a reflink, else a hard link, else a copy.
pub fn link(from: &Path, to: &Path) -> Result<How> {
    let known = WAY.load(Ordering::Relaxed);
    if known <= 1 {
        if reflink(from, to).is_ok() {
            WAY.store(1, Ordering::Relaxed);
            return Ok(How::Reflink);
        }
        WAY.store(2, Ordering::Relaxed);
    }
    // Across devices, or where a file already has as many names as it can have, a copy still works.
    if fs::hard_link(from, to).is_ok() {
        return Ok(How::HardLink);
    }
    copy(from, to).at("copying", from)?;
    Ok(How::Copy)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if to.exists() {
        return Err(std::io::ErrorKind::AlreadyExists.into());
    }
    fs::copy(from, to).map(|_| ())
}

/// Copies a file or folder, sharing blocks where the file system can. Links that lead out are followed.
pub fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let meta = fs::metadata(from).at("reading", from)?;
    if !meta.is_dir() {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).at("making", parent)?;
        }
        return reflink(from, to).or_else(|_| copy(from, to)).at("copying", from);
    }
    copy_folder(from, from, to)
}

fn copy_folder(root: &Path, from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).at("making", to)?;
    for entry in fs::read_dir(from).at("reading", from)? {
        let entry = entry.at("reading", from)?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().at("reading", &path)?;
        if kind.is_symlink() && !crate::walk::leads_out(root, &path) {
            let inside = fs::read_link(&path).at("reading", &path)?;
            std::os::unix::fs::symlink(inside, &target).at("linking", &target)?;
        } else if path.is_dir() {
            copy_folder(root, &path, &target)?;
        } else {
            copy_all(&path, &target)?;
        }
    }
    Ok(())
}

/// Makes a file read only, keeping whether it may be executed.
pub fn protect(path: &Path, executable: bool) -> Result<()> {
    let mode = if executable { 0o555 } else { 0o444 };
    fs::set_permissions(path, Permissions::from_mode(mode)).at("protecting", path)
}

/// Removes a file, link or folder, also where folders are read only. What is not there is no error.
pub fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).at("removing", path),
        Ok(meta) if meta.is_dir() => {
            if fs::remove_dir_all(path).is_ok() {
                return Ok(());
            }
            open_up(path)?;
            fs::remove_dir_all(path).at("removing", path)
        }
        Ok(_) => fs::remove_file(path).at("removing", path),
    }
}

fn open_up(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).at("opening", folder)?;
    for entry in fs::read_dir(folder).at("reading", folder)? {
        let entry = entry.at("reading", folder)?;
        if entry.file_type().at("reading", folder)?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Puts a symbolic link to `target` at `path`, over what stood there, in one step.
pub fn point(path: &Path, target: &Path) -> Result<()> {
    if fs::read_link(path).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).at("making", parent)?;
    let partial = parent.join(format!(".{}.partial", path.file_name().unwrap_or_default().to_string_lossy()));
    remove(&partial)?;
    std::os::unix::fs::symlink(target, &partial).at("linking", &partial)?;
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
        // A real folder stands there, made by hand: a link cannot be renamed over it.
        let aside = parent.join(format!("{}.kept", path.file_name().unwrap_or_default().to_string_lossy()));
        if aside.exists() || fs::rename(path, &aside).is_err() {
            remove(&partial)?;
            return Err(std::io::Error::from(std::io::ErrorKind::AlreadyExists))
                .at("replacing the folder", path);
        }
    }
    fs::rename(&partial, path).at("placing", path)
}

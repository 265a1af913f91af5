//! Giving a content a second name without a second copy, where the file system can.

use crate::contents;
use crate::error::{IoContext, Result};
use crate::name;
use crate::process;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
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
    copy(from, to, None).at("copying", from)?;
    Ok(How::Copy)
}

/// Whether second names are hard links here, as far as it is known.
pub(crate) fn by_names() -> bool {
    WAY.load(Ordering::Relaxed) == 2
}

/// Does something that makes a file at `path`, and its folder first where there is none yet.
pub(crate) fn in_folder(path: &Path, act: impl Fn() -> io::Result<()>) -> io::Result<()> {
    match (act(), path.parent()) {
        (Err(e), Some(folder)) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            act()
        }
        (done, _) => done,
    }
}

/// A file of its own with the same blocks.
fn reflink(from: &Path, to: &Path) -> io::Result<()> {
    fill(from, to, None, reflink_copy::reflink_file)
}

/// A file of its own with the same content and, unless another is given, the same mode.
pub fn copy(from: &Path, to: &Path, mode: Option<u32>) -> io::Result<()> {
    let mode = mode.map(Permissions::from_mode);
    fill(from, to, mode, |mut source, mut target| match reflink_copy::reflink_file(source, target) {
        Ok(()) => Ok(()),
        Err(_) => io::copy(&mut source, &mut target).map(drop),
    })
}

/// Makes a file that nobody else can read before it is whole and has its mode.
fn fill(
    from: &Path,
    to: &Path,
    mode: Option<Permissions>,
    act: impl FnOnce(&File, &File) -> io::Result<()>,
) -> io::Result<()> {
    let source = contents::open(from)?;
    let target = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    let filled = act(&source, &target).and_then(|()| match mode {
        Some(mode) => target.set_permissions(mode),
        None => target.set_permissions(source.metadata()?.permissions()),
    });
    if filled.is_err() {
        fs::remove_file(to)?;
    }
    filled
}

/// The mode of a file in the store: it is not changed, and nobody may read it who might not read it where it was.
/// `mode` is the one that it had, `most` what the folders above it let through.
pub fn kept_mode(mode: u32, most: u32, executable: bool) -> u32 {
    (mode & most & if executable { 0o555 } else { 0o444 }) | if executable { 0o500 } else { 0o400 }
}

/// What a folder lets others do with the files in it, as a mask of modes.
pub fn let_through(mode: u32) -> u32 {
    let closed = |bit: u32, group: u32| if mode & bit == 0 { group } else { 0 };
    0o777 & !closed(0o010, 0o070) & !closed(0o001, 0o007)
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

/// Moves something to a place where nothing is.
pub fn place(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).at("making", parent)?;
    }
    fs::rename(from, to).at("moving", from)
}

/// The name of something beside `path` that this thread has not finished.
pub fn partial(path: &Path) -> PathBuf {
    let thread = process::thread();
    let name = name::label(&name::text(path.file_name().unwrap_or_default()));
    path.with_file_name(format!(".{name}.{thread}.partial"))
}

/// Whether a path is such a name: something that is being written, or that somebody who was killed has left.
pub fn is_partial(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(b".partial")
}

/// Puts a symbolic link to `target` at `path`, over a file or link that stood there, in one step.
pub fn point(path: &Path, target: &Path) -> Result<()> {
    if fs::read_link(path).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).at("making", parent)?;
    let partial = partial(path);
    remove(&partial)?;
    std::os::unix::fs::symlink(target, &partial).at("linking", &partial)?;
    let placed = fs::rename(&partial, path).at("placing", path);
    if placed.is_err() {
        remove(&partial)?;
    }
    placed
}

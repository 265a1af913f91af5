//! Advisory locks. The lock is the kernel's, on an open file; the file's existence means nothing.

use crate::error::{Error, IoContext, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

/// How often a waiting runner asks again.
const PAUSE: Duration = Duration::from_millis(50);

/// A lock that is held until this is dropped, in every process that inherited the file.
#[derive(Debug)]
pub struct Lock(pub File);

/// Takes the lock at `path` if nobody holds it.
pub fn attempt(path: &Path, shared: bool) -> Result<Option<Lock>> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at("making", parent)?;
    }
    // On NFS a shared lock needs a file that is open for reading, an exclusive one a file that is open for writing.
    let file =
        File::options().create(true).truncate(false).read(true).write(true).open(path).at("opening", path)?;
    let operation =
        if shared { FlockOperation::NonBlockingLockShared } else { FlockOperation::NonBlockingLockExclusive };
    match flock(&file, operation) {
        Ok(()) => Ok(Some(Lock(file))),
        // A network file system may be interrupted while it asks its server; whoever waits asks again.
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
        Err(e @ (Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) => {
            Err(Error::NoLocks { path: path.into(), source: e.into() })
        }
        Err(e) => Err(e).at("locking", path),
    }
}

/// Whether somebody holds the lock at `path` alone. Those who ask do not keep each other from it, and make no file.
pub fn is_held(path: &Path) -> bool {
    let file = File::options().read(true).write(true).open(path);
    file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}

/// Waits for the lock at `path`. `waiting` is called once when it is held by another, and `stop` ends the wait.
pub fn wait(
    path: &Path,
    shared: bool,
    waiting: impl FnOnce(),
    stop: impl Fn() -> bool,
) -> Result<Option<Lock>> {
    if let Some(lock) = attempt(path, shared)? {
        return Ok(Some(lock));
    }
    waiting();
    while !stop() {
        std::thread::sleep(PAUSE);
        if let Some(lock) = attempt(path, shared)? {
            return Ok(Some(lock));
        }
    }
    Ok(None)
}

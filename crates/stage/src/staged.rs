//! A file or folder under construction, and how it takes its place.

use crate::error::{BadInput, bad_input};
use crate::layout::Layout;
use crate::place::parent;
use crate::staging::{EARLIER, MARK, NEW, TEXT, is_left, is_staging, remove_staging, staging};
use anyhow::{Context, Result};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A file or folder under construction beside its final place; [`Staged::commit`] puts it there.
///
/// It is made in a hidden folder `.NAME.staged`. Dropped without a commit it disappears.
pub struct Staged {
    staging: PathBuf,
    path: PathBuf,
    target: PathBuf,
    /// What a folder that is replaced may hold.
    layout: Option<Layout>,
    /// Locked as long as this lives.
    _mark: fs::File,
}

impl Staged {
    /// Starts a folder that will become `target`, which may be there already with what `layout` names, and nothing else. What a
    /// killed run left is removed first.
    ///
    /// # Errors
    /// When the folder beside `target` cannot be made; bad input when one that is not ours is there.
    pub fn folder(target: &Path, layout: &Layout) -> Result<Self> {
        let staged = Self::at(target, Some(*layout))?;
        fs::create_dir(&staged.path).with_context(|| format!("making {}", staged.path.display()))?;
        Ok(staged)
    }

    /// Starts a file that will become `target`.
    ///
    /// # Errors
    /// When the folder of `target` cannot be made; bad input when there is one that is not ours.
    pub fn file(target: &Path) -> Result<Self> {
        Self::at(target, None)
    }

    fn at(target: &Path, layout: Option<Layout>) -> Result<Self> {
        let folder = parent(target);
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let staging = staging(target)?;
        recover(target)?;
        let context = || format!("making {}", staging.display());
        match fs::create_dir(&staging) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e).with_context(context),
            _ => {}
        }
        fs::write(staging.join(MARK), TEXT).with_context(context)?;
        let mark = fs::File::open(staging.join(MARK)).with_context(context)?;
        if locked(&mark) {
            return Err(busy(target));
        }
        Ok(Self { path: staging.join(NEW), staging, target: target.into(), layout, _mark: mark })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the finished work in its place, over the earlier output that stood there, after it has reached the disk. Whenever
    /// the process ends, the earlier or the new one is there.
    ///
    /// # Errors
    /// When it cannot be synced or renamed, or something else has come there meanwhile; what is there then stays.
    pub fn commit(self) -> Result<()> {
        sync(&self.path).with_context(|| format!("syncing {}", self.path.display()))?;
        let context = || format!("moving {} to {}", self.path.display(), self.target.display());
        match (fs::symlink_metadata(&self.target), &self.layout) {
            (Err(e), _) if e.kind() == io::ErrorKind::NotFound => appear(&self.path, &self.target),
            (Err(e), _) => Err(e),
            (Ok(there), None) if there.is_file() => fs::rename(&self.path, &self.target),
            (Ok(there), Some(layout)) if there.is_dir() => {
                if let Some(foreign) = layout.foreign(&self.target)? {
                    bad_input!(
                        "{} has come to hold {}, which is no output; move it away and run again",
                        self.target.display(),
                        foreign.display()
                    )
                }
                let earlier = self.exchange().with_context(context)?;
                self.discard(&earlier, layout)?;
                Ok(())
            }
            _ => bad_input!(
                "{} has come to be something else than an output; move it away and run again",
                self.target.display()
            ),
        }
        .with_context(context)?;
        // The folder itself, for the new name in it; its other files are nobody's business here.
        let folder = fs::File::open(parent(&self.target)).and_then(|folder| folder.sync_all());
        folder.with_context(|| format!("syncing beside {}", self.target.display()))
    }

    /// Exchanges the new folder with the earlier one; gives where that is now.
    fn exchange(&self) -> io::Result<PathBuf> {
        match renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::EXCHANGE) {
            Ok(()) => return Ok(self.path.clone()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
        // Some file systems cannot. A process that ends between the two leaves both here, and the next one puts the earlier back.
        let earlier = self.staging.join(EARLIER);
        fs::rename(&self.target, &earlier)?;
        fs::rename(&self.path, &self.target).inspect_err(|_| {
            // The first error is the one to tell.
            let _ = fs::rename(&earlier, &self.target);
        })?;
        Ok(earlier)
    }

    /// Removes what was replaced; what came into it in the last moment is kept where it is.
    fn discard(&self, earlier: &Path, layout: &Layout) -> Result<()> {
        let Some(foreign) = layout.remove(earlier)? else { return Ok(()) };
        // Without its mark nobody takes the folder for one that can be removed.
        fs::remove_file(self.staging.join(MARK)).context("keeping what is no output")?;
        bad_input!(
            "{} was put into {} while that was replaced; it is in {} now",
            foreign.display(),
            self.target.display(),
            earlier.display()
        )
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if is_staging(&self.staging) {
            // Nothing more can be done about a folder that will not go; the next run tries again.
            let _ = remove_staging(&self.staging);
        }
    }
}

/// Clears up what a killed run left beside `target`, after putting an earlier output back that it had moved away.
///
/// # Errors
/// Bad input when what is there was not made by [`Staged`], or is being written to.
pub(crate) fn recover(target: &Path) -> Result<()> {
    let staging = staging(target)?;
    let context = || format!("clearing {}", staging.display());
    // Nothing there, or no folder that it could be in.
    let Ok(there) = fs::symlink_metadata(&staging) else { return Ok(()) };
    if !there.is_dir() || !is_left(&staging) {
        bad_input!(
            "{}: not what a run of this program left; it is needed for {}, move it away",
            staging.display(),
            target.display()
        )
    }
    if fs::File::open(staging.join(MARK)).is_ok_and(|mark| locked(&mark)) {
        return Err(busy(target));
    }
    let earlier = staging.join(EARLIER);
    if fs::symlink_metadata(&earlier).is_ok() && fs::symlink_metadata(target).is_err() {
        fs::rename(&earlier, target).with_context(|| format!("putting {} back", target.display()))?;
    }
    remove_staging(&staging).with_context(context)
}

/// Whether another process holds this; else this one does from now on.
fn locked(mark: &fs::File) -> bool {
    // A file system without locks has nobody who holds one.
    matches!(flock(mark, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK))
}

fn busy(target: &Path) -> anyhow::Error {
    BadInput(format!("{}: another run is writing it; wait for it, or name another output", target.display()))
        .into()
}

/// Gives a new name to what must not replace anything.
fn appear(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(from, to),
        result => Ok(result?),
    }
}

fn sync(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if !entry.file_type()?.is_symlink() {
                sync(&entry.path())?;
            }
        }
    }
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;

//! The folder for what a later run of the same work can go on from.

use crate::error::bad_input;
use crate::layout::{Layout, MARK};
use crate::place::parent;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

/// A state folder, which may not be there yet.
pub(crate) struct State {
    path: PathBuf,
    program: String,
    layout: Layout,
    /// Whether it is ours to remove after success (no runner keeps it).
    owned: bool,
    /// Whether this process has made the folder, and the file that says whose it is.
    made: Mutex<(bool, bool)>,
}

impl State {
    pub(crate) fn new(path: PathBuf, program: &str, layout: Layout, owned: bool) -> Self {
        Self { path, program: program.into(), layout, owned, made: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder.
    pub(crate) fn make(&self) -> Result<()> {
        let context = || format!("making {}", self.path.display());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let there = self.path.exists();
        fs::create_dir_all(&self.path).with_context(context)?;
        made.0 |= !there;
        let mark = self.path.join(MARK);
        // One that a kill has cut short is written again.
        if !self.marked(&self.path) {
            fs::write(mark, format!("{}\n", self.program)).with_context(context)?;
            made.1 = true;
        }
        Ok(())
    }

    /// Takes back what [`Self::make`] has made, for work that was refused before it began.
    pub(crate) fn unmake(&self) {
        let (folder, mark) = *self.made.lock().unwrap_or_else(PoisonError::into_inner);
        // What cannot be removed is an empty folder more.
        if self.owned && mark {
            let _ = fs::remove_file(self.path.join(MARK));
        }
        if self.owned && folder {
            let _ = fs::remove_dir(&self.path);
        }
    }

    /// Checks that the folder is not there, empty, or this program's; removes what a run that was killed in its last moment has
    /// left of it.
    pub(crate) fn check(&self) -> Result<()> {
        let finished = self.finished();
        if self.owned && self.marked(&finished) {
            self.layout.remove(&finished)?;
        }
        let (path, program) = (&self.path, &self.program);
        // What a person or the runner names may be a link; what we remove may not.
        let there = match if self.owned { fs::symlink_metadata(path) } else { fs::metadata(path) } {
            Ok(there) => there,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => bad_input!("{}, the state folder: {e}", path.display()),
        };
        let out = "move it away, or name another output";
        if !there.is_dir() {
            bad_input!("{}: no folder, where {program} keeps what it can go on from; {out}", path.display())
        }
        match fs::read_to_string(path.join(MARK)) {
            Ok(by) if !self.begins_ours(&by) => {
                bad_input!("{}: what {} can go on from; {out}", path.display(), by.trim())
            }
            _ => {}
        }
        match self.layout.foreign(path)? {
            Some(foreign) => bad_input!(
                "{}: holds {}, which {program} did not make, and {program} keeps there what it can go on from; {out}",
                path.display(),
                foreign.display()
            ),
            None => Ok(()),
        }
    }

    /// Removes the folder after success; gives what it keeps as it is not ours.
    pub(crate) fn remove(&self) -> Result<Option<PathBuf>> {
        if !self.owned || !self.marked(&self.path) {
            return Ok(None);
        }
        // At once, so that a run that is killed now leaves all of it or none; what is not ours stays where it is.
        let finished = self.finished();
        let whole = self.layout.foreign(&self.path)?.is_none();
        if whole && fs::rename(&self.path, &finished).is_ok() {
            return self.layout.remove(&finished);
        }
        self.layout.remove(&self.path)
    }

    /// Where the folder goes to be removed.
    fn finished(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default();
        parent(&self.path).join(format!(".{}.finished", name.to_string_lossy()))
    }

    /// Whether a mark says this program's name, or as much of it as was written before a kill.
    fn begins_ours(&self, mark: &str) -> bool {
        format!("{}\n", self.program).starts_with(mark)
    }

    fn marked(&self, folder: &Path) -> bool {
        fs::read_to_string(folder.join(MARK)).is_ok_and(|by| by.trim() == self.program)
    }
}

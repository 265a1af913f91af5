//! Writing so that nobody ever sees half of a file or folder.

use crate::BadInputExt;
use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A file or folder under construction beside its final place; [`Staged::commit`] renames it there.
///
/// Dropped without a commit it disappears.
pub struct Staged {
    path: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl Staged {
    /// Starts a folder that will become `target`. What a killed run left is removed first.
    ///
    /// # Errors
    /// When the folder beside `target` cannot be made.
    pub fn folder(target: &Path) -> Result<Self> {
        let staged = Self::at(target)?;
        fs::create_dir(&staged.path).with_context(|| format!("making {}", staged.path.display()))?;
        Ok(staged)
    }

    /// Starts a file that will become `target`.
    ///
    /// # Errors
    /// When the folder of `target` cannot be made.
    pub fn file(target: &Path) -> Result<Self> {
        Self::at(target)
    }

    fn at(target: &Path) -> Result<Self> {
        let name = target.file_name().with_context(|| format!("{} has no file name", target.display()))?;
        let parent = parent(target);
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        let path = parent.join(format!(".{}.partial", name.to_string_lossy()));
        remove(&path).with_context(|| format!("removing {}", path.display()))?;
        Ok(Self { path, target: target.into(), committed: false })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the finished work in its place, over what stood there, after it has reached the disk.
    ///
    /// # Errors
    /// When it cannot be synced or renamed; the old content then stays.
    pub fn commit(mut self) -> Result<()> {
        sync(&self.path).with_context(|| format!("syncing {}", self.path.display()))?;
        if self.path.is_dir() {
            remove(&self.target).with_context(|| format!("replacing {}", self.target.display()))?;
        }
        fs::rename(&self.path, &self.target)
            .with_context(|| format!("moving {} to {}", self.path.display(), self.target.display()))?;
        self.committed = true;
        // The folder itself, for the new name in it; its other files are nobody's business here.
        let folder = fs::File::open(parent(&self.target)).and_then(|folder| folder.sync_all());
        folder.with_context(|| format!("syncing beside {}", self.target.display()))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing more can be done about a folder that will not go; the next run tries again.
            let _ = remove(&self.path);
        }
    }
}

/// Writes a file through [`Staged`].
///
/// # Errors
/// When it cannot be written; the old content then stays.
pub fn write_atomically(target: &Path, write: impl FnOnce(&mut dyn io::Write) -> Result<()>) -> Result<()> {
    let staged = Staged::file(target)?;
    let context = || format!("writing {}", target.display());
    let mut out = io::BufWriter::new(fs::File::create(staged.path()).with_context(context)?);
    write(&mut out).with_context(context)?;
    io::Write::flush(&mut out).with_context(context)?;
    drop(out);
    staged.commit()
}

/// Writes `value` as indented JSON with a final newline, atomically.
///
/// # Errors
/// When it cannot be written.
pub fn write_json(target: &Path, value: &impl Serialize) -> Result<()> {
    write_atomically(target, |out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        Ok(out.write_all(b"\n")?)
    })
}

/// Reads a JSON file; whatever is wrong with it is the caller's (exit code 2).
///
/// # Errors
/// When it is missing, not JSON, or of another shape.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let context = || format!("reading {}", path.display());
    let text = fs::read_to_string(path).bad_input(context)?;
    serde_json::from_str(&text).bad_input(context)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let gone = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match gone {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
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
mod tests {
    use super::*;

    #[test]
    fn nothing_is_visible_before_the_commit() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a/latents");
        let staged = Staged::folder(&target).unwrap();
        fs::write(staged.path().join("0"), "x").unwrap();
        assert!(!target.exists());
        staged.commit().unwrap();
        assert_eq!(fs::read_to_string(target.join("0")).unwrap(), "x");

        let dropped = Staged::folder(&target).unwrap();
        let partial = dropped.path().to_owned();
        drop(dropped);
        assert!(!partial.exists() && target.join("0").exists());
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("scores.json");
        write_json(&target, &1).unwrap();
        assert!(write_atomically(&target, |_| anyhow::bail!("disk on fire")).is_err());
        assert_eq!(read_json::<i32>(&target).unwrap(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

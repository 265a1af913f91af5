//! Writing so that nobody ever sees half of a file or folder.

use crate::{BadInputExt, Staged, read_text};
use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::path::Path;
use std::{fs, io};

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
    let text = read_text(path)?;
    serde_json::from_str(&text).bad_input(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

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

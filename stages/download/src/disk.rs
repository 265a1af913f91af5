//! Whether there is room, before anything is fetched.

use anyhow::{Context, Result};
use stage::bad_input;
use std::path::Path;

/// Refuses when the disk of `folder`, which need not exist yet, has less than `needed` bytes free.
pub fn check(folder: &Path, needed: u64) -> Result<()> {
    let mut there = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    while !there.exists() {
        let Some(parent) = there.parent() else { return Ok(()) };
        there = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    }
    let disk = rustix::fs::statvfs(there)
        .with_context(|| format!("asking for the free disk of {}", there.display()))?;
    let free = disk.f_bavail * disk.f_frsize;
    if free < needed {
        bad_input!(
            "{}: {:.1} GB free, {:.1} GB needed; free some, or point HF_HOME and the output elsewhere",
            there.display(),
            free as f64 / 1e9,
            needed as f64 / 1e9
        )
    }
    Ok(())
}

//! Doing one part of the work, and joining the parts.

use crate::error::{BadInputExt as _, bad_input};
use anyhow::{Context as _, Result};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The units of work of one shard: an equal share of `units`, in order.
///
/// # Errors
/// Bad input when there is no such shard.
pub fn share(units: usize, shard: usize, shards: usize) -> Result<Range<usize>> {
    if shard >= shards {
        bad_input!("--shard {shard}: with --shards {shards} they are 0 to {}", shards.saturating_sub(1))
    }
    Ok(units * shard / shards..units * (shard + 1) / shards)
}

/// What the shards made, in their order: the folders in `folder`.
///
/// # Errors
/// Bad input when there is none, or something else lies there.
pub fn parts(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).bad_input(|| format!("reading {}", folder.display()))?;
    let mut parts = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    parts.sort();
    match parts.iter().find(|part| !part.is_dir()) {
        Some(other) => bad_input!("{} is no folder that a shard made", other.display()),
        None if parts.is_empty() => bad_input!("{}: no folders of shards in it", folder.display()),
        None => Ok(parts),
    }
}

/// Gives a file a second name, or copies it to another disk.
///
/// # Errors
/// When neither can be done.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    fs::hard_link(from, to)
        .or_else(|_| fs::copy(from, to).map(drop))
        .with_context(|| format!("linking {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_units_once() {
        for (units, shards) in [(10, 3), (2, 5), (0, 2), (7, 1)] {
            let all: Vec<usize> = (0..shards).flat_map(|s| share(units, s, shards).unwrap()).collect();
            assert_eq!(all, (0..units).collect::<Vec<_>>());
        }
        assert_eq!(crate::exit_code(&share(3, 2, 2).unwrap_err()), 2);
    }
}

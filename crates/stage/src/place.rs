//! Where a path leads, whether or not something is there yet.

use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// The device and inode of a file or folder.
type Identity = (u64, u64);

/// A path without links, and what is there.
pub(crate) struct Place {
    path: PathBuf,
    /// Of the file or folder itself, if it is there.
    own: Option<Identity>,
    /// Of the folders above it that are there; a folder that is mounted twice has one identity and two paths.
    above: Vec<Identity>,
}

impl Place {
    /// Follows every link on the way and at the end; what is not there yet is taken as it is written.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let absolute = std::path::absolute(path).with_context(|| format!("finding {}", path.display()))?;
        let mut real = PathBuf::new();
        for part in absolute.components() {
            match part {
                Component::ParentDir => drop(real.pop()),
                part => real.push(part),
            }
            // As soon as something is missing, all below it is.
            real = fs::canonicalize(&real).unwrap_or(real);
        }
        let identity = |path: &Path| fs::metadata(path).ok().map(|there| (there.dev(), there.ino()));
        let own = identity(&real);
        let above = real.ancestors().skip(1).filter_map(identity).collect();
        Ok(Self { path: real, own, above })
    }

    /// Whether both are the same file or folder, under whatever names.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.path == other.path || (self.own.is_some() && self.own == other.own)
    }

    /// Whether `other` lies below this.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        other.path.starts_with(&self.path) || self.own.is_some_and(|own| other.above.contains(&own))
    }
}

/// The folder that something lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_missing_parts_are_seen_through() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| Place::of(&dir.path().join(name)).unwrap();
        fs::create_dir_all(dir.path().join("data/a")).unwrap();
        fs::write(dir.path().join("data/file"), "x").unwrap();
        fs::hard_link(dir.path().join("data/file"), dir.path().join("second")).unwrap();
        symlink("data", dir.path().join("link")).unwrap();
        symlink("data/b", dir.path().join("dangling")).unwrap();
        assert!(at("link").is(&at("data")) && at("data/../link/a").is(&at("data/a")));
        assert!(at("second").is(&at("data/file")));
        assert!(at("data").holds(&at("link/a/not/yet")) && at("link").holds(&at("data/a")));
        assert!(
            !at("data").is(&at("data2"))
                && !at("data").holds(&at("data2"))
                && !at("data/a").holds(&at("data"))
        );
        assert!(at("missing").holds(&at("missing/x")) && at("missing").is(&at("other/../missing")));
        assert!(!at("dangling").is(&at("data")));
    }
}

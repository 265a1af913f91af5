//! The Hub's cache on this machine, shared with its other clients: `blobs/DIGEST`, and `snapshots/COMMIT/NAME` linked to them. No
//! name that a server gives leads out of it.

use anyhow::{Context as _, Result};
use stage::{BadInput, bad_input};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What a repository is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Pictures.
    Dataset,
    /// Weights.
    Model,
}

impl Kind {
    /// For people.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::Model => "model",
        }
    }
}

/// The part of the cache that belongs to one repository.
pub struct Cache {
    root: PathBuf,
    folder: PathBuf,
}

/// Whether a repository can be called so.
///
/// # Errors
/// Bad input that says how they are called.
pub fn is_name(kind: Kind, name: &str) -> Result<()> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    if name.split('/').count() > 2 || !name.split('/').all(part) {
        bad_input!("--{} {name}: a {} of the Hub is called ORGANISATION/NAME", kind.noun(), kind.noun())
    }
    Ok(())
}

impl Cache {
    /// Of a repository, in `home` or where the Hub's clients keep it.
    ///
    /// # Errors
    /// Bad input when the name is none of a repository.
    pub fn of(home: &Path, kind: Kind, name: &str) -> Result<Self> {
        is_name(kind, name)?;
        let root = home.join("hub");
        let folder = root.join(format!("{}s--{}", kind.noun(), name.replace('/', "--")));
        Ok(Self { root, folder })
    }

    /// Where it is; need not exist yet.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The place of content of this digest, which is hexadecimal.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs").join(digest)
    }

    /// Makes the folder of blobs.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn prepare(&self) -> Result<()> {
        let folder = self.folder.join("blobs");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))
    }

    /// Shows a blob under its name in a commit, to other clients of the Hub.
    ///
    /// # Errors
    /// When it cannot be linked.
    pub fn link(&self, commit: &str, name: &str, digest: &str) -> Result<()> {
        let inner = Path::new("snapshots").join(commit).join(inside(name)?);
        let place = self.folder.join(&inner);
        if place.exists() {
            return Ok(());
        }
        let context = || format!("linking {}", place.display());
        fs::create_dir_all(place.parent().unwrap_or(&self.folder)).with_context(context)?;
        // A link to a blob that is gone.
        match fs::remove_file(&place) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).with_context(context),
            _ => {}
        }
        let up: PathBuf = inner.parent().into_iter().flat_map(Path::components).map(|_| "..").collect();
        std::os::unix::fs::symlink(up.join("blobs").join(digest), &place).with_context(context)
    }
}

/// A commit as a server names it.
///
/// # Errors
/// Bad input when it is none.
pub fn commit(text: &str) -> Result<String> {
    match text.len() {
        40..=64 if text.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(text.into()),
        _ => bad_input!("the Hub names the commit {text:?}, which is none"),
    }
}

/// A file's name as a server gives it, where it stays inside its folder.
///
/// # Errors
/// Bad input when it does not.
pub fn inside(name: &str) -> Result<&Path> {
    let path = Path::new(name);
    let mut parts = name.split(['/', '\\']);
    let sound =
        parts.all(|part| !part.is_empty() && part != "." && part != "..") && !name.contains(['\0', '\\']);
    match sound && path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(path),
        false => {
            Err(BadInput(format!("the Hub names a file {name:?}, which would lead out of its cache")).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_cache() {
        for name in ["../x", "/etc/x", "a/../../x", "a//b", "./a", "a\\..\\b", "", "a/..", "x\0"] {
            assert!(inside(name).is_err(), "{name:?}");
        }
        assert_eq!(inside("data/train-0.parquet").unwrap(), Path::new("data/train-0.parquet"));
        assert!(commit("../../../0123456789012345678901234567890123").is_err());
        assert!(commit(&"a".repeat(40)).is_ok());
        let home = Path::new("home");
        for name in ["..", "../x", "a/b/c", "https://huggingface.co/a", "a/.b", "a b"] {
            assert!(Cache::of(home, Kind::Dataset, name).is_err(), "{name:?}");
        }
        let cache = Cache::of(home, Kind::Model, "org/name").unwrap();
        assert_eq!(cache.blob("ab"), Path::new("home/hub/models--org--name/blobs/ab"));
    }

    #[test]
    fn snapshots_link_to_blobs() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::of(home.path(), Kind::Dataset, "a/b").unwrap();
        cache.prepare().unwrap();
        fs::write(cache.blob("ab"), "content").unwrap();
        cache.link("c0ffee", "data/x.parquet", "ab").unwrap();
        cache.link("c0ffee", "data/x.parquet", "ab").unwrap();
        let place = home.path().join("hub/datasets--a--b/snapshots/c0ffee/data/x.parquet");
        assert_eq!(fs::read_to_string(place).unwrap(), "content");
    }
}

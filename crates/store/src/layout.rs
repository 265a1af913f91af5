//! An open store, and where things stand in it.

use crate::error::{Error, IoContext, Result};
use crate::lock::{self, Lock};
use crate::{link, record, statcache};
use std::fs;
use std::path::{Path, PathBuf};

/// Version of the layout that the crate tells of.
const FORMAT: &str = "1";

/// An open store.
pub struct Store {
    /// `.pipeline`, absolute.
    pub path: PathBuf,
    /// What is known of files by their `stat`.
    pub stats: statcache::StatCache,
    /// Name of the study that is worked on; several may share a store.
    pub study: String,
}

impl Store {
    /// Opens the store of a study whose root is `root`, making it when there is none.
    pub fn open(root: &Path, study: &str) -> Result<Self> {
        let path = root.join(".pipeline");
        let format = path.join("format");
        match fs::read_to_string(&format) {
            Ok(text) if text.trim() == FORMAT => {}
            Ok(text) => {
                return Err(Error::Format { path, found: text.trim().into(), known: FORMAT });
            }
            Err(_) => {
                fs::create_dir_all(&path).at("making", &path)?;
                record::write_bytes(&path.join(".gitignore"), b"*\n", false)?;
                let tag = b"Signature: 8a477f597d28d172789f06886806bc55\n";
                record::write_bytes(&path.join("CACHEDIR.TAG"), tag, false)?;
                record::write_bytes(&format, FORMAT.as_bytes(), false)?;
            }
        }
        let stats = statcache::StatCache::open(path.join("statcache"));
        Ok(Self { path, stats, study: study.into() })
    }

    /// Whether there is no room left: a stage may then fail without a word, as its log is there too.
    pub fn full(&self) -> bool {
        rustix::fs::statvfs(&self.path).is_ok_and(|disk| disk.f_bavail * disk.f_frsize < 1 << 16)
    }

    /// A path inside the store.
    pub fn at(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.path.join(relative)
    }

    /// Where the results of an action stand.
    pub fn results(&self, key: &str) -> PathBuf {
        self.path.join("results").join(&key[..2]).join(key)
    }

    /// Where the newest success of a stage is noted.
    pub fn last(&self, stage: &str) -> PathBuf {
        self.at("last").join(&self.study).join(format!("{stage}.json"))
    }

    /// Waits for the right to run an action. `None` when asked to stop while waiting.
    pub fn lock(&self, key: &str, waiting: impl FnOnce(), stop: impl Fn() -> bool) -> Result<Option<Lock>> {
        lock::wait(&self.at("locks").join(key), false, waiting, stop)
    }

    /// Makes an empty folder, whatever stood there.
    pub fn fresh(&self, path: &Path) -> Result<()> {
        link::remove(path)?;
        fs::create_dir_all(path).at("making", path)
    }
}

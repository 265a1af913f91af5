//! The store beside a study: blobs by digest, results by action key, and everything a run leaves behind.
//!
//! ```text
//! .pipeline/
//!   format               version of this layout
//!   blobs/3f/…           file contents, read only; `.x` when they may be executed
//!   trees/3f/…           manifests of folders
//!   views/…              folders made of links to blobs; out/ leads here
//!   results/3f/KEY/…     what an action gave; only this makes a result exist
//!   last/STUDY/STAGE.json  the newest success of each stage, for `plan` and `why`
//!   attempts/KEY/        working folder of a running action
//!   state/KEY/           what an interrupted action can go on from
//!   locks/ logs/ runs/ describe/ builds/ statcache
//! ```

pub mod digest;
mod error;
pub mod link;
pub mod lock;
pub mod manifest;
mod objects;
pub mod record;
pub mod statcache;
pub mod verify;
pub mod walk;

pub use error::{Error, IoContext, Result};
pub use objects::Produced;

use lock::Lock;
use std::fs;
use std::path::{Path, PathBuf};

/// Version of the layout above.
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

//! Following what a running stage publishes.

use crate::error::Result;
use crate::session::{Session, Unit};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use store::IoContext;
use store::lock::{self, Lock};
use store::{Store, link};
use study::graph::{Output, Stream};

/// How often a stage's folder is looked at.
pub const LOOK: Duration = Duration::from_millis(300);

/// Gives everything that a stage publishes a second name, so that it stays when the stage takes it away again.
pub struct Follower {
    source: PathBuf,
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _lock: Lock,
}

impl Follower {
    /// Follows an output of an action, whether it runs already or not. `None` when somebody else does.
    pub fn start(session: &Session, unit: &Unit, output: &Output, stream: &Stream) -> Result<Option<Self>> {
        let (store, key) = (&session.store, &unit.key[..32]);
        let Some(lock) =
            lock::attempt(&store.at("locks").join(format!("watch-{key}-{}", output.name)), false)?
        else {
            return Ok(None);
        };
        let source = match stream {
            Stream::Output => store.at("attempts").join(key).join("out").join(&output.file),
            Stream::State(..) => store.at("state").join(key),
        };
        let folder = store.at("attempts").join(format!("watch-{key}-{}", output.name));
        store.fresh(&folder.join("seen"))?;
        let _ = keep(&source, &folder.join("seen"), stream);
        let stop = Arc::new(AtomicBool::new(false));
        let (from, to, stream, stopped) =
            (source.clone(), folder.join("seen"), stream.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // What is just being renamed or taken away is there, or not, the next time.
                let _ = keep(&from, &to, &stream);
                std::thread::sleep(LOOK);
            }
        });
        Ok(Some(Self { source, folder, stop, thread: Some(thread), _lock: lock }))
    }

    /// The names of all entries so far.
    pub fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.join("seen")).map(|d| d.flatten().collect::<Vec<_>>());
        let names =
            entries.unwrap_or_default().into_iter().map(|e| e.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|n| !n.starts_with('.')).collect();
        names.sort();
        names
    }

    /// A folder of these entries that stays as it is.
    pub fn snapshot(&self, store: &Store, names: &[String]) -> Result<PathBuf> {
        let round = self.folder.join("round");
        store.fresh(&round)?;
        for name in names {
            second(&self.folder.join("seen").join(name), &round.join(name)).at("linking", &round)?;
        }
        Ok(round)
    }

    /// Forgets those of these entries that the stage itself has taken away.
    pub fn forget(&self, names: &[String]) -> Result<()> {
        for name in names.iter().filter(|name| !self.source.join(name).exists()) {
            link::remove(&self.folder.join("seen").join(name))?;
        }
        Ok(link::remove(&self.folder.join("round"))?)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // What cannot be removed now is removed by the next watch, or by gc.
        let _ = link::remove(&self.folder);
    }
}

/// Gives new entries their second names.
fn keep(from: &Path, to: &Path, stream: &Stream) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if !stream.takes(&text) || to.join(&name).exists() {
            continue;
        }
        let partial = to.join(format!(".{text}"));
        link::remove(&partial).map_err(io::Error::other)?;
        second(&from.join(&name), &partial)?;
        fs::rename(&partial, to.join(&name))?;
    }
    Ok(())
}

/// A second name for a file, or for every file of a folder.
fn second(from: &Path, to: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(from)?.is_dir() {
        return fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop));
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        second(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

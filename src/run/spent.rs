//! How long attempts ran from which a task goes on: a result is the work of all of them.

use crate::cache::results::Earlier;
use crate::engine::batch;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::{Key, Store, link, record};

/// What is noted of them beside what they left.
#[derive(Default, Serialize, Deserialize)]
struct Spent {
    #[serde(flatten)]
    earlier: Earlier,
    /// When the last of them began, where its folder was left as it was.
    last: Option<Duration>,
}

/// Notes how long the attempt ran that a killed runner left; to be called before another begins. What did not leave anything to
/// go on from counts no more.
pub fn resume(store: &Store, key: &Key) {
    if !goes_on(store, key) {
        // There is hardly ever one.
        let _ = link::remove(&store.spent(key));
        return;
    }
    let left = Store::newest_outputs(&store.attempt(key));
    if let Some(began) = Store::began(&left)
        && noted(store, key).last != Some(began)
        && let Some(last) = newest(&store.state(key))
    {
        // A job of a batch system waited before it began.
        let since = batch::began(&store.attempt(key)).unwrap_or(UNIX_EPOCH + began);
        let ran = last.duration_since(since).unwrap_or(Duration::ZERO);
        add(store, key, ran.as_secs_f64());
    }
}

/// Notes that an attempt ran for so long without a result; where it left something, the next one goes on from there.
pub fn add(store: &Store, key: &Key, seconds: f64) {
    if goes_on(store, key) {
        let Spent { earlier, .. } = noted(store, key);
        let earlier = Earlier { attempts: earlier.attempts + 1, seconds: earlier.seconds + seconds };
        let last = Store::began(&Store::newest_outputs(&store.attempt(key)));
        // Without it the result says less.
        let _ = record::write(&store.spent(key), &Spent { earlier, last }, false);
    }
}

fn noted(store: &Store, key: &Key) -> Spent {
    record::read(&store.spent(key)).unwrap_or_default()
}

/// The attempts so far that a task goes on from.
pub fn earlier(store: &Store, key: &Key) -> Option<Earlier> {
    record::read::<Spent>(&store.spent(key)).map(|spent| spent.earlier)
}

/// Whether there is something to go on from.
fn goes_on(store: &Store, key: &Key) -> bool {
    fs::read_dir(store.state(key)).is_ok_and(|mut entries| entries.next().is_some())
}

/// When something in a folder was written last.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let of = |path: PathBuf| {
        let meta = fs::symlink_metadata(&path).ok()?;
        if meta.is_dir() { newest(&path) } else { meta.modified().ok() }
    };
    entries.filter_map(|entry| of(entry.path())).max()
}

//! Digests remembered by what `stat` says of a file, so that unchanged files are not read again.

use crate::digest::{Digest, Kind};
use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file whose content changed this shortly before it was hashed might change again within the same tick of its
/// clock; such an entry is written down but not trusted (git's rule).
const RACY: i64 = 2_000_000_000;
/// First bytes of the file; the last digit is its version.
const MAGIC: &[u8; 8] = b"PLSTAT\x00\x01";
/// Entries that the present run did not use are dropped above this number.
const ROOM: usize = 400_000;

/// Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    size: u64,
    mtime: i64,
    ctime: i64,
    hash: [u8; 32],
    /// Whether the entry was made long enough after the file's last change.
    trusted: bool,
    used: bool,
}

/// The cache, and the file it is kept in.
pub struct StatCache {
    file: Option<PathBuf>,
    entries: Mutex<State>,
}

#[derive(Default)]
struct State {
    map: HashMap<(u64, u64), Entry>,
    dirty: bool,
}

impl StatCache {
    /// Reads the cache; a missing or damaged file is an empty cache.
    pub fn open(file: PathBuf) -> Self {
        let map = std::fs::read(&file).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        Self { file: Some(file), entries: Mutex::new(State { map, dirty: false }) }
    }

    /// A cache that knows nothing and is kept nowhere.
    pub fn empty() -> Self {
        Self { file: None, entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digest of the file that `meta` describes, if it is known and nothing about the file changed.
    pub fn get(&self, meta: &Metadata) -> Option<Digest> {
        let mut state = self.lock();
        let entry = state.map.get_mut(&(meta.dev(), meta.ino()))?;
        let same = entry.size == meta.size() && entry.mtime == mtime(meta) && entry.ctime == ctime(meta);
        if !(same && entry.trusted) {
            return None;
        }
        entry.used = true;
        Some(Digest { kind: kind(meta), hash: entry.hash })
    }

    /// Remembers a digest of content that was read from `read_at` on (see [`now`]). `None` says that nobody else
    /// can have the file open for writing, so that its age does not matter.
    pub fn put(&self, meta: &Metadata, digest: &Digest, read_at: Option<i64>) {
        let entry = Entry {
            size: meta.size(),
            mtime: mtime(meta),
            ctime: ctime(meta),
            hash: digest.hash,
            trusted: read_at.is_none_or(|at| trusted(at, mtime(meta))),
            used: true,
        };
        let mut state = self.lock();
        state.dirty |= state.map.insert((meta.dev(), meta.ino()), entry) != Some(entry);
    }

    /// Writes the cache if it changed; it is also written when this is dropped. A failure only costs time later.
    pub fn save(&self) {
        let Some(file) = &self.file else { return };
        let mut state = self.lock();
        if !std::mem::take(&mut state.dirty) {
            return;
        }
        if state.map.len() > ROOM {
            state.map.retain(|_, entry| entry.used);
        }
        let bytes = encode(&state.map);
        let partial = file.with_extension(format!("{}.partial", std::process::id()));
        if std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, file)).is_err() {
            let _ = std::fs::remove_file(&partial);
        }
    }
}

impl Drop for StatCache {
    fn drop(&mut self) {
        self.save();
    }
}

fn trusted(now: i64, mtime: i64) -> bool {
    // A file from the future is never old enough: its clock, or ours, is wrong.
    now.saturating_sub(mtime) > RACY
}

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}

/// When a file's content changed, as it says itself.
pub fn mtime(meta: &Metadata) -> i64 {
    meta.mtime().wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec())
}

/// When anything about a file changed.
pub fn ctime(meta: &Metadata) -> i64 {
    meta.ctime().wrapping_mul(1_000_000_000).wrapping_add(meta.ctime_nsec())
}

/// Whether a file is a program.
pub fn kind(meta: &Metadata) -> Kind {
    if meta.mode() & 0o100 != 0 { Kind::Program } else { Kind::File }
}

/// 73 bytes an entry, and a BLAKE3 hash over everything at the end.
fn encode(map: &HashMap<(u64, u64), Entry>) -> Vec<u8> {
    let mut out = Vec::with_capacity(map.len() * 73 + 40);
    out.extend(MAGIC);
    for ((dev, ino), e) in map {
        out.extend(dev.to_le_bytes());
        out.extend(ino.to_le_bytes());
        out.extend(e.size.to_le_bytes());
        out.extend(e.mtime.to_le_bytes());
        out.extend(e.ctime.to_le_bytes());
        out.extend(e.hash);
        out.push(u8::from(e.trusted));
    }
    let check = blake3::hash(&out);
    out.extend(check.as_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<HashMap<(u64, u64), Entry>> {
    let (body, check) = bytes.split_last_chunk::<32>()?;
    if blake3::hash(body).as_bytes() != check {
        return None;
    }
    let (records, rest) = body.strip_prefix(MAGIC)?.as_chunks::<73>();
    if !rest.is_empty() {
        return None;
    }
    let mut map = HashMap::with_capacity(records.len());
    for record in records {
        let number = |at: usize| record[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let entry = Entry {
            size: number(16)?,
            mtime: number(24)? as i64,
            ctime: number(32)? as i64,
            hash: record[40..72].try_into().ok()?,
            trusted: record[72] == 1,
            used: false,
        };
        map.insert((number(0)?, number(8)?), entry);
    }
    Some(map)
}

/// How many files the bytes of a cache speak of; `None` when they are none.
pub fn count(bytes: &[u8]) -> Option<usize> {
    decode(bytes).map(|map| map.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File, FileTimes};
    use std::time::Duration;

    fn digest(byte: u8) -> Digest {
        Digest { kind: Kind::File, hash: [byte; 32] }
    }

    #[test]
    fn an_edit_with_its_mtime_put_back_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "aaaa").unwrap();
        let old = SystemTime::now() - Duration::from_secs(100);
        let backdate = || {
            let file = File::options().write(true).open(&path).unwrap();
            file.set_times(FileTimes::new().set_modified(old)).unwrap();
        };
        backdate();
        let cache = StatCache::open(dir.path().join("cache"));
        let before = fs::metadata(&path).unwrap();
        cache.put(&before, &digest(1), Some(now()));
        assert_eq!(cache.get(&before), Some(digest(1)));
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&path, "bbbb").unwrap();
        backdate();
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.len(), after.modified().unwrap()), (before.len(), before.modified().unwrap()));
        assert_eq!(cache.get(&after), None);
    }

    #[test]
    fn a_file_just_written_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "a").unwrap();
        let cache = StatCache::open(dir.path().join("cache"));
        let meta = fs::metadata(&path).unwrap();
        cache.put(&meta, &digest(1), Some(now()));
        assert_eq!(cache.get(&meta), None);
        cache.put(&meta, &digest(1), None);
        assert_eq!(cache.get(&meta), Some(digest(1)));
        assert!(!trusted(10, 10) && !trusted(0, i64::MAX) && trusted(RACY + 11, 10));
    }

    #[test]
    fn kept_in_a_file_that_notices_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "a").unwrap();
        let meta = fs::metadata(&path).unwrap();
        let cache = StatCache::open(dir.path().join("cache"));
        cache.put(&meta, &digest(3), None);
        cache.save();
        assert_eq!(StatCache::open(dir.path().join("cache")).get(&meta), Some(digest(3)));
        let mut bytes = fs::read(dir.path().join("cache")).unwrap();
        bytes[60] ^= 1;
        fs::write(dir.path().join("cache"), bytes).unwrap();
        assert_eq!(StatCache::open(dir.path().join("cache")).get(&meta), None);
    }
}

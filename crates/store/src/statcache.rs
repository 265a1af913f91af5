//! Digests remembered by what `stat` says of a file, so that unchanged files are not read again.

use crate::digest::{Digest, Kind};
use crate::kept::{Kept, Key, RECORD};
use crate::process;
use rayon::prelude::*;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// A file that changed this shortly before it was read might change again within the same tick of its clock; such an
/// entry is written down but not trusted (git's rule).
const RACY: i64 = 2 * SECOND;
/// The same where times have no fractions of a second. They may be even seconds only, and are those of a clock that a
/// kernel moves on a little late.
const RACY_COARSE: i64 = 4 * SECOND;
const SECOND: i64 = 1_000_000_000;
/// First bytes of the file; the last digit is its version.
const MAGIC: &[u8; 8] = b"PLSTAT\x00\x02";
/// Entries that the present run did not use are dropped above this number.
const ROOM: usize = 400_000;
/// A larger file is read beside what its reader does before the first question.
const LARGE: u64 = 1 << 20;

/// What `stat` says of a file's state. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    size: u64,
    mtime: i64,
    ctime: i64,
    /// Of the path, where `stat` alone is too weak; else 0.
    path: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    seen: Seen,
    hash: [u8; 32],
    /// Whether the entry was made long enough after the file's last change.
    trusted: bool,
}

impl Seen {
    fn of(meta: &Metadata) -> Self {
        Self { size: meta.size(), mtime: mtime(meta), ctime: ctime(meta), path: 0 }
    }

    /// With the path, where times are coarse: file systems with such clocks often number their files anew with every
    /// mount, and many files have one size and were written within one second.
    fn named(self, path: &Path) -> Self {
        if !self.coarse() {
            return self;
        }
        let hash = blake3::hash(path.as_os_str().as_bytes());
        Self { path: u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8])), ..self }
    }

    /// Whether the file system seems to have no fractions of a second. The ctime tells, which nobody can set.
    fn coarse(&self) -> bool {
        self.ctime % SECOND == 0
    }

    /// Whether a change after `now`, by the file system's clock, would be seen. The mtime alone does not
    /// tell: a writer may put it back.
    fn settled(&self, now: i64) -> bool {
        let racy = if self.coarse() { RACY_COARSE } else { RACY };
        // A file from the future is never old enough: its clock, or ours, is wrong.
        now.saturating_sub(self.mtime.max(self.ctime)) > racy
    }
}

/// The cache, and the file it is kept in.
pub struct StatCache {
    file: Option<PathBuf>,
    /// What the file had, once it was read.
    kept: LazyLock<Kept, Box<dyn FnOnce() -> Kept + Send>>,
    new: Mutex<New>,
    /// Whether there is anything new: else nobody waits for it.
    any_new: AtomicBool,
    /// How far the clock of the store's file system is behind ours, once it was looked at.
    behind: OnceLock<i64>,
}

/// What the present run has learned.
#[derive(Default)]
struct New {
    map: HashMap<Key, Entry>,
    dirty: bool,
}

impl Entry {
    fn read(record: &[u8; RECORD]) -> Self {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&record[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let mut hash = [0; 32];
        hash.copy_from_slice(&record[48..80]);
        let (mtime, ctime) = (number(24) as i64, number(32) as i64);
        Self {
            seen: Seen { size: number(16), mtime, ctime, path: number(40) },
            hash,
            trusted: record[80] == 1,
        }
    }

    fn record(&self, (device, inode): &Key) -> [u8; RECORD] {
        let Seen { size, mtime, ctime, path } = self.seen;
        let mut record = [0; RECORD];
        for (place, number) in
            [*device, *inode, size, mtime as u64, ctime as u64, path].into_iter().enumerate()
        {
            record[8 * place..][..8].copy_from_slice(&number.to_le_bytes());
        }
        record[48..80].copy_from_slice(&self.hash);
        record[80] = u8::from(self.trusted);
        record
    }
}

impl StatCache {
    /// Reads the cache; a missing or damaged file is an empty cache.
    pub fn open(file: PathBuf) -> Self {
        let read = |file: &Path| std::fs::read(file).ok().and_then(decode).unwrap_or_default();
        let (mine, large) = (file.clone(), std::fs::metadata(&file).is_ok_and(|meta| meta.len() > LARGE));
        let reader = large.then(|| thread::Builder::new().spawn(move || read(&mine)));
        match reader {
            Some(Ok(reader)) => Self::of(Some(file), move || reader.join().unwrap_or_default()),
            // It is small, or there are no threads.
            Some(Err(_)) | None => {
                let kept = read(&file);
                Self::of(Some(file), || kept)
            }
        }
    }

    /// A cache that knows nothing and is kept nowhere.
    pub fn empty() -> Self {
        Self::of(None, Kept::default)
    }

    fn of(file: Option<PathBuf>, kept: impl FnOnce() -> Kept + Send + 'static) -> Self {
        let (new, any_new) = (Mutex::default(), AtomicBool::new(false));
        Self { file, kept: LazyLock::new(Box::new(kept)), new, any_new, behind: OnceLock::new() }
    }

    fn lock(&self) -> MutexGuard<'_, New> {
        self.new.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a file; it is used from now on.
    fn entry(&self, key: &Key) -> Option<Entry> {
        if self.any_new.load(Ordering::Acquire)
            && let Some(entry) = self.lock().map.get(key)
        {
            return Some(*entry);
        }
        let number = self.kept.find(key)?;
        self.kept.set_used(number);
        Some(Entry::read(self.kept.record(number)))
    }

    /// The digest of the file at `path`, which `meta` describes, if it is known and nothing about the file changed.
    pub fn get(&self, path: &Path, meta: &Metadata) -> Option<Digest> {
        let seen = self.seen(path, meta);
        let entry = self.entry(&(meta.dev(), meta.ino()))?;
        if !(entry.seen == seen && entry.trusted) {
            return None;
        }
        Some(Digest { kind: kind(meta), hash: entry.hash })
    }

    /// Remembers a digest of content that was read from `read_at` on (see [`now`]). `None` says that nobody else
    /// can have the file open for writing, so that its age does not matter.
    pub fn put(&self, path: &Path, meta: &Metadata, digest: &Digest, read_at: Option<i64>) {
        let seen = self.seen(path, meta);
        let trusted = read_at.is_none_or(|at| seen.settled(at.saturating_sub(self.behind())));
        let (key, entry) = ((meta.dev(), meta.ino()), Entry { seen, hash: digest.hash, trusted });
        if self.entry(&key) != Some(entry) {
            let mut new = self.lock();
            new.map.insert(key, entry);
            new.dirty = true;
            self.any_new.store(true, Ordering::Release);
        }
    }

    /// What is compared. The store's own files go by several names and are moved; they are checked against the digest that
    /// their names say.
    fn seen(&self, path: &Path, meta: &Metadata) -> Seen {
        let (seen, store) = (Seen::of(meta), self.file.as_deref().and_then(Path::parent));
        if !seen.coarse() || store.is_some_and(|store| path.starts_with(store)) {
            seen
        } else {
            seen.named(path)
        }
    }

    /// How far the file system's clock is behind ours: a server's is its own, and times of files are taken from it.
    fn behind(&self) -> i64 {
        let Some(file) = &self.file else { return 0 };
        *self.behind.get_or_init(|| {
            let probe = file.with_extension(format!("{}.clock", process::thread()));
            let before = now();
            let made = std::fs::write(&probe, b"").and_then(|()| std::fs::metadata(&probe));
            let _ = std::fs::remove_file(&probe);
            // Nothing can be written there: then nothing is kept there either.
            made.map_or(0, |meta| before.saturating_sub(ctime(&meta)).max(0))
        })
    }

    /// Writes the cache if it changed; it is also written when this is dropped. A failure only costs time later.
    pub fn save(&self) {
        let Some(file) = &self.file else { return };
        let mut new = self.lock();
        if !std::mem::take(&mut new.dirty) {
            return;
        }
        let partial = file.with_extension(format!("{}.partial", process::thread()));
        if self.write(&new.map, &partial).and_then(|()| std::fs::rename(&partial, file)).is_err() {
            let _ = std::fs::remove_file(&partial);
        }
    }

    /// Writes all entries, or where they are many those that the present run used, in the order of their keys, with a hash
    /// over everything at the end.
    fn write(&self, new: &HashMap<Key, Entry>, file: &Path) -> io::Result<()> {
        let sealed = Sealed { file: File::create(file)?, hasher: blake3::Hasher::new() };
        let mut out = BufWriter::with_capacity(1 << 16, sealed);
        out.write_all(MAGIC)?;
        let mut sorted: Vec<(&Key, &Entry)> = new.iter().collect();
        sorted.par_sort_unstable_by_key(|(key, _)| **key);
        let mut sorted = sorted.into_iter().peekable();
        let few = self.kept.len() + new.len() <= ROOM;
        for number in self.kept.numbers() {
            let old = self.kept.key(number);
            while let Some((key, entry)) = sorted.next_if(|(key, _)| **key < old) {
                out.write_all(&entry.record(key))?;
            }
            let replaced = sorted.peek().is_some_and(|(key, _)| **key == old);
            if !replaced && (few || self.kept.used(number)) {
                out.write_all(self.kept.record(number))?;
            }
        }
        for (key, entry) in sorted {
            out.write_all(&entry.record(key))?;
        }
        let Sealed { mut file, hasher } = out.into_inner()?;
        file.write_all(hasher.finalize().as_bytes())
    }
}

/// A file, and the hash of what was written to it.
struct Sealed {
    file: File,
    hasher: blake3::Hasher,
}

impl Write for Sealed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for StatCache {
    fn drop(&mut self) {
        self.save();
    }
}

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}

/// When a file's content changed, as it says itself.
pub fn mtime(meta: &Metadata) -> i64 {
    meta.mtime().wrapping_mul(SECOND).wrapping_add(meta.mtime_nsec())
}

/// When anything about a file changed.
pub fn ctime(meta: &Metadata) -> i64 {
    meta.ctime().wrapping_mul(SECOND).wrapping_add(meta.ctime_nsec())
}

/// Whether a file is a program.
pub fn kind(meta: &Metadata) -> Kind {
    if meta.mode() & 0o100 != 0 { Kind::Program } else { Kind::File }
}

fn decode(bytes: Vec<u8>) -> Option<Kept> {
    let (body, check) = bytes.split_last_chunk::<32>()?;
    if blake3::hash(body).as_bytes() != check {
        return None;
    }
    let (records, rest) = body.strip_prefix(MAGIC)?.as_chunks::<RECORD>();
    if !rest.is_empty() {
        return None;
    }
    let records = records.len();
    Some(Kept::new(bytes, MAGIC.len(), records))
}

/// How many files the bytes of a cache speak of; `None` when they are none.
pub fn count(bytes: &[u8]) -> Option<usize> {
    decode(bytes.to_vec()).map(|kept| kept.len())
}

#[cfg(test)]
mod tests;

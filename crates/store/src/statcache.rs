//! Digests remembered by what `stat` says of a file, so that unchanged files are not read again.

use crate::digest::{Digest, Kind};
use crate::kept::{self, Kept, Key, RECORD};
use crate::learned::Learned;
use crate::process;
use rustix::fs::FileType;
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

/// What `stat` says of a file, as far as it is looked at here. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    key: Key,
    /// Its size in bytes.
    pub size: u64,
    mtime: i64,
    ctime: i64,
    mode: u32,
}

impl From<&Metadata> for Stat {
    fn from(meta: &Metadata) -> Self {
        let (key, size, mode) = ((meta.dev(), meta.ino()), meta.size(), meta.mode());
        Self { key, size, mtime: mtime(meta), ctime: ctime(meta), mode }
    }
}

impl From<&rustix::fs::Stat> for Stat {
    fn from(stat: &rustix::fs::Stat) -> Self {
        Self {
            key: (stat.st_dev, stat.st_ino),
            size: stat.st_size as u64,
            mtime: nanoseconds(stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime: nanoseconds(stat.st_ctime, stat.st_ctime_nsec as i64),
            mode: stat.st_mode,
        }
    }
}

impl Stat {
    /// Whether it is a file; of another thing nothing is known.
    fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::RegularFile
    }

    fn kind(&self) -> Kind {
        if self.mode & 0o100 != 0 { Kind::Program } else { Kind::File }
    }
}

/// What is compared of a file's state. Times are nanoseconds since 1970.
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
    fn of(stat: &Stat) -> Self {
        Self { size: stat.size, mtime: stat.mtime, ctime: stat.ctime, path: 0 }
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
    /// What the present run has learned.
    new: Mutex<Learned>,
    /// Whether there is anything new: else nobody waits for it.
    any_new: AtomicBool,
    /// How far the clock of the store's file system is behind ours, once it was looked at.
    behind: OnceLock<i64>,
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

    fn lock(&self) -> MutexGuard<'_, Learned> {
        self.new.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a file; it is used from now on.
    fn entry(&self, key: &Key) -> Option<Entry> {
        if self.any_new.load(Ordering::Acquire)
            && let Some(record) = self.lock().get(key)
        {
            return Some(Entry::read(record));
        }
        let number = self.kept.find(key)?;
        self.kept.set_used(number);
        Some(Entry::read(self.kept.record(number)))
    }

    /// The digest of the file at `path`, which `meta` describes, if it is known and nothing about the file changed.
    pub fn get(&self, path: &Path, meta: &Metadata) -> Option<Digest> {
        self.known(|| path, &meta.into())
    }

    /// The same, where the path is made only when it is needed. What is no file has no digest.
    pub fn known<P: AsRef<Path>>(&self, path: impl FnOnce() -> P, stat: &Stat) -> Option<Digest> {
        let entry = self.entry(&stat.key).filter(|entry| entry.trusted && stat.is_file())?;
        (entry.seen == self.seen(path, stat)).then(|| Digest { kind: stat.kind(), hash: entry.hash })
    }

    /// Remembers a digest of content that was read from `read_at` on (see [`now`]). `None` says that nobody else
    /// can have the file open for writing, so that its age does not matter.
    pub fn put(&self, path: &Path, meta: &Metadata, digest: &Digest, read_at: Option<i64>) {
        let stat = Stat::from(meta);
        let seen = self.seen(|| path, &stat);
        let trusted = read_at.is_none_or(|at| seen.settled(at.saturating_sub(self.behind())));
        let entry = Entry { seen, hash: digest.hash, trusted };
        if self.entry(&stat.key) != Some(entry) {
            self.lock().put(&entry.record(&stat.key));
            self.any_new.store(true, Ordering::Release);
        }
    }

    /// What is compared. The store's own files go by several names and are moved; they are checked against the digest that
    /// their names say.
    fn seen<P: AsRef<Path>>(&self, path: impl FnOnce() -> P, stat: &Stat) -> Seen {
        let (seen, store) = (Seen::of(stat), self.file.as_deref().and_then(Path::parent));
        if !seen.coarse() {
            return seen;
        }
        let path = path();
        let path = path.as_ref();
        if store.is_some_and(|store| path.starts_with(store)) { seen } else { seen.named(path) }
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
        if !new.take_dirty() {
            return;
        }
        let partial = file.with_extension(format!("{}.partial", process::thread()));
        if self.write(&new, &partial).and_then(|()| std::fs::rename(&partial, file)).is_err() {
            let _ = std::fs::remove_file(&partial);
        }
    }

    /// Writes all entries, or where they are many those that the present run used, in the order of their keys, with a hash
    /// over everything at the end.
    fn write(&self, new: &Learned, file: &Path) -> io::Result<()> {
        let sealed = Sealed { file: File::create(file)?, hasher: blake3::Hasher::new() };
        let mut out = BufWriter::with_capacity(1 << 16, sealed);
        out.write_all(MAGIC)?;
        let few = self.kept.len() + new.len() <= ROOM;
        let mut learned = new.sorted().peekable();
        for number in self.kept.numbers() {
            let old = self.kept.key(number);
            while let Some(record) = learned.next_if(|record| kept::key(record) < old) {
                out.write_all(record)?;
            }
            let replaced = learned.peek().is_some_and(|record| kept::key(record) == old);
            if !replaced && (few || self.kept.used(number)) {
                out.write_all(self.kept.record(number))?;
            }
        }
        for record in learned {
            out.write_all(record)?;
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
    nanoseconds(meta.mtime(), meta.mtime_nsec())
}

/// When anything about a file changed.
pub fn ctime(meta: &Metadata) -> i64 {
    nanoseconds(meta.ctime(), meta.ctime_nsec())
}

fn nanoseconds(seconds: i64, more: i64) -> i64 {
    seconds.wrapping_mul(SECOND).wrapping_add(more)
}

/// Whether a file is a program.
pub fn kind(meta: &Metadata) -> Kind {
    Stat::from(meta).kind()
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

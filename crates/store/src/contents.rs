//! The BLAKE3 hash of a file's content.
//!
//! Files are read, never mapped: somebody else may cut a mapped file short, or its disk may fail, and the process dies
//! of it without a word.

use crate::error::{Error, IoContext, Result};
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::fs::{Advice, fadvise};
use std::cell::RefCell;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

/// As much is read at a time, and hashed while it is in the processor's cache. A power of two keeps BLAKE3's tree whole.
const PIECE: u64 = 1 << 20;

/// Reads and hashes large files. Twice as many threads as cores: one waits for the disk while another hashes. `None`
/// where the system gives no threads.
static READERS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    ThreadPoolBuilder::new().num_threads(2 * cores).build().ok()
});

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The hash of the file at `path`, which `meta` described just before.
///
/// # Errors
/// [`Error::Changed`] when the file is not what `meta` says, before or after it was read.
pub fn hash(path: &Path, meta: &Metadata) -> Result<blake3::Hash> {
    let file = open(path).at("opening", path)?;
    let length = meta.len();
    let hash = match length {
        0..=PIECE => with_piece(&file, 0, length, blake3::hash),
        _ => large(path, &file, length),
    };
    let hash = hash.map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => Error::Changed(path.into()),
        _ => Error::Io { verb: "reading", path: path.into(), source: e },
    })?;
    let after = file.metadata().at("reading", path)?;
    // Another name of the same file changes its ctime, and nothing that was read.
    let same = |a: &Metadata, b: &Metadata| {
        (a.len(), a.mtime(), a.mtime_nsec()) == (b.len(), b.mtime(), b.mtime_nsec())
    };
    if same(meta, &after) { Ok(hash) } else { Err(Error::Changed(path.into())) }
}

/// Opens a file to be read, and waits for nobody: a named pipe that stands there by now gives nothing, not even an end.
///
/// # Errors
/// When it is no file.
pub fn open(path: &Path) -> io::Result<File> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    let kind = file.metadata()?.file_type();
    // Reading a folder fails by itself.
    match kind.is_file() || kind.is_dir() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
    }
}

/// Reads a piece of a file and does something with it.
fn with_piece<T>(file: &File, at: u64, length: u64, act: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    BUFFER.with_borrow_mut(|buffer| {
        let length = length as usize;
        if buffer.len() < length {
            buffer.resize(length.next_power_of_two(), 0);
        }
        file.read_exact_at(&mut buffer[..length], at)?;
        Ok(act(&buffer[..length]))
    })
}

/// Every piece is a subtree of BLAKE3's tree; threads take them in the order they lie in, so that the disk is read
/// nearly in order.
fn large(path: &Path, file: &File, length: u64) -> io::Result<blake3::Hash> {
    let count = length.div_ceil(PIECE);
    let next = AtomicU64::new(0);
    let done = Mutex::new((vec![ChainingValue::default(); count as usize], Ok(())));
    let work = |file: &File| {
        // Advice; without it reading is only slower.
        let _ = fadvise(file, 0, None, Advice::Sequential);
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return;
            }
            let at = i * PIECE;
            let value = with_piece(file, at, PIECE.min(length - at), |bytes| {
                blake3::Hasher::new().set_input_offset(at).update(bytes).finalize_non_root()
            });
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match value {
                Ok(value) => done.0[i as usize] = value,
                Err(e) => {
                    next.store(count, Ordering::Relaxed);
                    done.1 = Err(e);
                }
            }
        }
    };
    match READERS.as_ref() {
        None => work(file),
        Some(readers) => readers.scope(|scope| {
            for _ in 0..count.min(readers.current_num_threads() as u64) {
                scope.spawn(|_| match open(path) {
                    // The kernel reads ahead by open file; threads that share one spoil it for each other.
                    Ok(own) if is_same(&own, file) => work(&own),
                    _ => work(file),
                });
            }
        }),
    }
    let (values, result) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    result?;
    let (left, right) = halves(&values, length);
    Ok(merge_subtrees_root(&left, &right, Mode::Hash))
}

/// Whether both are open on one file: the path may lead to another by now.
fn is_same(a: &File, b: &File) -> bool {
    let name = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    name(a).is_some() && name(a) == name(b)
}

/// The chaining values of the two subtrees below a tree of more than one piece.
fn halves(values: &[ChainingValue], length: u64) -> (ChainingValue, ChainingValue) {
    let left = left_subtree_len(length);
    let (first, rest) = values.split_at((left / PIECE) as usize);
    (merged(first, left), merged(rest, length - left))
}

fn merged(values: &[ChainingValue], length: u64) -> ChainingValue {
    if let [value] = values {
        return *value;
    }
    let (left, right) = halves(values, length);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn pieces_do_not_change_the_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for length in [
            0,
            1,
            1023,
            1024,
            PIECE - 1,
            PIECE,
            PIECE + 1,
            2 * PIECE,
            2 * PIECE + 1,
            3 * PIECE,
            9 * PIECE + 77,
        ] {
            let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            fs::write(&path, &bytes).unwrap();
            let meta = fs::metadata(&path).unwrap();
            assert_eq!(hash(&path, &meta).unwrap(), blake3::hash(&bytes), "{length}");
        }
    }

    #[test]
    fn a_file_that_is_not_what_it_was_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for length in [100, 5 * PIECE] {
            for now in [0, length - 1, length + 1] {
                File::create(&path).unwrap().set_len(length).unwrap();
                let meta = fs::metadata(&path).unwrap();
                File::options().write(true).open(&path).unwrap().set_len(now).unwrap();
                let error = hash(&path, &meta).unwrap_err().to_string();
                assert!(error.ends_with("x changed while it was read"), "{error}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        // As a disk that fails: it can be opened, and not be read.
        let meta = fs::metadata(dir.path()).unwrap();
        let error = hash(dir.path(), &meta).unwrap_err().to_string();
        assert!(error.starts_with(&format!("reading {}: ", dir.path().display())), "{error}");
    }
}

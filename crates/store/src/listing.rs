//! What stands in a folder, as an input, as an output, or as a folder of the store.

use crate::digest::{Digest, Kind};
use crate::error::{Error, IoContext, Result};
use crate::ignore::Ignore;
use crate::links::{Folder, Lead};
use crate::manifest::{Entry, Item};
use crate::small_path::SmallPath;
use crate::under_way::UnderWay;
use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Folders lie in each other at most so deep.
const DEEPEST: usize = 128;
/// So many entries are handed on together at first, and twice as many each time up to the second number: a small folder is
/// shared by all cores, and of a large one most batches have neighbours in the order of inodes.
const BATCH: (usize, usize) = (1 << 10, 1 << 14);
/// Bytes of a folder that the kernel is asked for at a time.
const NAMES: usize = 1 << 17;

/// As what a folder is read.
#[derive(Clone, Copy)]
pub enum Links<'a> {
    /// As an input: a link that leads out counts as what it leads to, one to nothing as a link, and what is ignored does
    /// not count.
    Follow(&'a Ignore),
    /// As a folder of the store, which has been checked: a link is a link.
    Keep,
    /// As an output, which is made fit for the store: its folders can be read and changed, a link into the output is a
    /// relative one, and a link that leads out is refused.
    Refuse,
}

/// A file that nobody has looked at yet. Where its size will stand is its inode.
fn unread(inode: u64) -> Item {
    Item::File(Digest { kind: Kind::File, hash: [0; 32] }, inode)
}

/// Everything in a folder as `see` gives it, in any order. What files hold, and how large they are, is yet to be read: `see`
/// does it on all cores while the rest of the folder is listed, given some entries in the order of their inodes, in which
/// most file systems and the stat cache have what is known of them, and the folder's descriptor. An output is listed whole
/// before the first of its files is touched.
pub(crate) fn list<R: Send>(
    path: &Path,
    links: Links,
    see: impl Fn(Vec<Entry>, BorrowedFd) -> Result<Vec<R>> + Sync,
) -> Result<Vec<R>> {
    let folder = match links {
        Links::Keep => None,
        Links::Follow(_) | Links::Refuse => Some(Folder::new(path).at("finding", path)?),
    };
    if let Links::Refuse = links {
        open_folder(path)?;
    }
    let root = open_to_read(path)?;
    let (seen, halted, under_way) = (Mutex::new(Vec::new()), AtomicBool::new(false), UnderWay::default());
    // The first of what went wrong, by its batch.
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let see = |number: usize, mut batch: Vec<Entry>| {
        let failed_before = || {
            let failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.as_ref().is_some_and(|(first, _)| *first < number)
        };
        if halted.load(Ordering::Relaxed) || failed_before() {
            return;
        }
        if let Links::Follow(ignore) = links {
            batch
                .retain(|entry| !matches!(entry.item, Item::File(..)) || !ignore.matches(&entry.path, false));
        }
        batch.sort_unstable_by_key(|entry| match entry.item {
            Item::File(_, inode) => inode,
            Item::Folder | Item::Link(_) => 0,
        });
        match see(batch, root.as_fd()) {
            Ok(mut some) => seen.lock().unwrap_or_else(PoisonError::into_inner).append(&mut some),
            Err(e) => {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                    *failed = Some((number, e));
                }
            }
        }
    };
    let (see, under_way) = (&see, &under_way);
    rayon::in_place_scope(|scope| {
        let (mut number, mut waiting) = (0, Vec::new());
        let mut hand_on = |batch: Vec<Entry>| {
            number += 1;
            let mine = number;
            if !under_way.begin() {
                return see(mine, batch);
            }
            scope.spawn(move |_| {
                let _ends = under_way.end();
                see(mine, batch);
            });
        };
        let mut take = |batch| match links {
            Links::Refuse => waiting.push(batch),
            Links::Follow(_) | Links::Keep => hand_on(batch),
        };
        let mut above: Vec<PathBuf> = folder.iter().map(|f| f.real().to_path_buf()).collect();
        let place = Place { folder: folder.as_ref(), path: PathBuf::new(), below: PathBuf::new() };
        let names = vec![MaybeUninit::uninit(); NAMES];
        let mut walk =
            Walk { links, root: path, names, found: Vec::new(), most: BATCH.0, take: &mut take, depth: 0 };
        let walked = walk.read(&place, &mut above);
        // Nobody asks any more.
        halted.store(walked.is_err(), Ordering::Relaxed);
        walked?;
        walk.hand_on();
        waiting.into_iter().for_each(hand_on);
        Ok::<_, Error>(())
    })?;
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, e)) => Err(e),
        None => Ok(seen.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

fn open_to_read(folder: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, folder, flags, Mode::empty()).map_err(io::Error::from).at("reading", folder)
}

/// Puts what was listed, or said of it, in the order of paths.
pub(crate) fn sort<T: Send>(found: &mut [T], path: impl Fn(&T) -> &Path + Sync) {
    found.par_sort_unstable_by(|a, b| path(a).as_os_str().cmp(path(b).as_os_str()));
}

/// The full path of something in a folder; `full` is where the last one was, and what it took is used again.
pub(crate) fn below<'a>(full: &'a mut PathBuf, folder: &Path, path: &Path) -> &'a Path {
    full.clear();
    full.push(folder);
    full.push(path);
    full
}

/// What `stat` says of a file that was listed, which is made readable where it is an output's.
pub(crate) fn stat(path: &Path, links: Links) -> Result<Metadata> {
    let mut meta = fs::symlink_metadata(path).at("reading", path)?;
    if let (Links::Follow(_), true) = (links, meta.is_symlink()) {
        meta = fs::metadata(path).at("following", path)?;
    }
    if !meta.is_file() {
        return Err(Error::Changed(path.into()));
    }
    if let Links::Refuse = links {
        open_file(path, &meta)?;
    }
    Ok(meta)
}

/// A folder on the way.
struct Place<'a> {
    /// The folder that links are judged by: the one that is read, or one that a link of it leads to.
    folder: Option<&'a Folder>,
    /// From there.
    below: PathBuf,
    /// From the folder that is read.
    path: PathBuf,
}

struct Walk<'a, T> {
    links: Links<'a>,
    /// The folder that is read.
    root: &'a Path,
    /// Where the kernel writes names.
    names: Vec<MaybeUninit<u8>>,
    /// What was found and not handed on, and how many may be.
    found: Vec<Entry>,
    most: usize,
    take: &'a mut T,
    depth: usize,
}

impl<T: FnMut(Vec<Entry>)> Walk<'_, T> {
    /// Reads a folder. `above` are the folders that links led to on the way here, without links.
    fn read(&mut self, place: &Place, above: &mut Vec<PathBuf>) -> Result<()> {
        let folder = self.root.join(&place.path);
        if self.depth > DEEPEST {
            return Err(Error::Depth(self.root.into()));
        }
        self.depth += 1;
        if let Links::Refuse = self.links {
            open_folder(&folder)?;
        }
        for (name, kind) in self.files(&folder, place)? {
            let path = place.path.join(&name);
            let here = Place { folder: place.folder, below: place.below.join(&name), path };
            let full = folder.join(&name);
            match kind {
                FileType::Symlink => self.link(&full, here, above)?,
                FileType::Directory => {
                    self.push(here.path.as_path(), Item::Folder);
                    self.read(&here, above)?;
                }
                _ => return Err(special(&full, &fs::symlink_metadata(&full).at("reading", &full)?)),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Takes the files of a folder, and gives the names of what else is there and counts.
    fn files(&mut self, folder: &Path, place: &Place) -> Result<Vec<(SmallPath, FileType)>> {
        let (descriptor, mut others) = (open_to_read(folder)?, Vec::new());
        let mut path = place.path.as_os_str().as_bytes().to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        let before = path.len();
        // Taken while it is written to, so that what is found can be pushed meanwhile.
        let mut names = std::mem::take(&mut self.names);
        let mut entries = RawDir::new(&descriptor, &mut names);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(io::Error::from).at("reading", folder)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                // Not every file system tells.
                FileType::Unknown => {
                    let stat = statat(&descriptor, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from);
                    let name = OsStr::from_bytes(name.to_bytes());
                    FileType::from_raw_mode(stat.at("reading", &folder.join(name))?.st_mode)
                }
                kind => kind,
            };
            path.truncate(before);
            path.extend(name.to_bytes());
            let path = Path::new(OsStr::from_bytes(&path));
            if kind == FileType::RegularFile {
                // Whether it counts is seen by whoever looks at it.
                self.push(path, unread(entry.ino()));
                continue;
            }
            let ignored = match self.links {
                Links::Follow(ignore) => ignore.matches(path, kind == FileType::Directory),
                Links::Keep | Links::Refuse => false,
            };
            if !ignored {
                others.push((OsStr::from_bytes(name.to_bytes()).into(), kind));
            }
        }
        self.names = names;
        Ok(others)
    }

    fn push(&mut self, path: impl Into<SmallPath>, item: Item) {
        self.found.push(Entry { path: path.into(), item });
        if self.found.len() >= self.most {
            self.hand_on();
        }
    }

    /// Hands on what was found.
    fn hand_on(&mut self) {
        self.most = (2 * self.most).min(BATCH.1);
        let found = std::mem::take(&mut self.found);
        (self.take)(found);
    }

    fn link(&mut self, full: &Path, here: Place, above: &mut Vec<PathBuf>) -> Result<()> {
        let target = fs::read_link(full).at("reading", full)?;
        let Some(folder) = here.folder else {
            self.push(here.path, Item::Link(target));
            return Ok(());
        };
        match folder.lead(&here.below, &target) {
            Lead::Inside(text) => {
                if let (Links::Refuse, true) = (self.links, text != target) {
                    fs::remove_file(full).at("replacing", full)?;
                    std::os::unix::fs::symlink(&text, full).at("linking", full)?;
                }
                self.push(here.path, Item::Link(text));
                Ok(())
            }
            Lead::Out if matches!(self.links, Links::Refuse) => {
                Err(Error::LeadsOut { path: full.into(), target })
            }
            Lead::Out => match fs::metadata(full) {
                Ok(meta) if meta.is_dir() => {
                    let outside = Folder::new(full).at("following", full)?;
                    if above.iter().any(|folder| folder.starts_with(outside.real())) {
                        // It leads round in a circle.
                        self.push(here.path, Item::Link(target));
                        return Ok(());
                    }
                    self.push(here.path.as_path(), Item::Folder);
                    above.push(outside.real().to_path_buf());
                    let place = Place { folder: Some(&outside), below: PathBuf::new(), path: here.path };
                    self.read(&place, above)?;
                    above.pop();
                    Ok(())
                }
                Ok(meta) if meta.is_file() => {
                    self.push(here.path, unread(meta.ino()));
                    Ok(())
                }
                Ok(meta) => Err(special(full, &meta)),
                Err(e) if leads_nowhere(&e) => {
                    self.push(here.path, Item::Link(target));
                    Ok(())
                }
                Err(e) => Err(e).at("following", full),
            },
        }
    }
}

/// Whether a link could not be followed because there is nothing, rather than because it may not be looked at.
fn leads_nowhere(error: &io::Error) -> bool {
    let circle = Some(Errno::LOOP.raw_os_error());
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename)
        || error.raw_os_error() == circle
}

/// Neither a file nor a folder.
pub(crate) fn special(path: &Path, meta: &Metadata) -> Error {
    let kind = meta.file_type();
    let what = match () {
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_block_device() || kind.is_char_device() => "a device",
        () => "something",
    };
    Error::Special { path: path.into(), what }
}

/// Lets us read and change a folder of an output.
fn open_folder(path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path).at("reading", path)?;
    if meta.mode() & 0o700 != 0o700 {
        let mode = Permissions::from_mode(meta.mode() & 0o7777 | 0o700);
        fs::set_permissions(path, mode).at("opening", path)?;
    }
    Ok(())
}

/// Lets us read a file of an output, unless it is somebody else's as well.
pub(crate) fn open_file(path: &Path, meta: &Metadata) -> Result<()> {
    if meta.mode() & 0o400 == 0 && meta.nlink() == 1 {
        let mode = Permissions::from_mode(meta.mode() & 0o777 | 0o400);
        fs::set_permissions(path, mode).at("opening", path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

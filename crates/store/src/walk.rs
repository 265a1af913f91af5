//! Hashing files and folders, reading only what the stat cache does not know.

use crate::contents;
use crate::digest::{Digest, Kind};
use crate::error::{Error, IoContext, Result};
use crate::ignore::Ignore;
use crate::links::{Folder, Lead};
use crate::manifest::{Entry, Item, Manifest};
use crate::statcache::{self, StatCache};
use rayon::prelude::*;
use rustix::io::Errno;
use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Folders lie in each other at most so deep.
const DEEPEST: usize = 128;

/// A file or folder with its digest.
#[derive(Clone, Debug)]
pub struct Hashed {
    /// Its name.
    pub digest: Digest,
    /// Sum of the sizes of its files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// For a folder.
    pub manifest: Option<Manifest>,
}

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

/// Hashes the file or folder at `path`; a link at `path` itself is followed.
pub fn hash(path: &Path, cache: &StatCache, links: Links) -> Result<Hashed> {
    let meta = fs::metadata(path).at("reading", path)?;
    if meta.is_dir() {
        let entries = list(path, links)?
            .into_par_iter()
            .with_min_len(256)
            .map(|(relative, item)| {
                let item = match item {
                    Found::Folder => Item::Folder,
                    Found::Link(target) => Item::Link(target),
                    Found::File(meta) => {
                        Item::File(content(&path.join(&relative), &meta, cache)?, meta.len())
                    }
                };
                Ok(Entry { path: relative, item })
            })
            .collect::<Result<Vec<_>>>()?;
        let manifest = Manifest(entries);
        return Ok(Hashed {
            digest: manifest.digest(),
            bytes: manifest.bytes(),
            files: manifest.files(),
            manifest: Some(manifest),
        });
    }
    if !meta.is_file() {
        return Err(special(path, &meta));
    }
    if let Links::Refuse = links {
        open_file(path, &meta)?;
    }
    Ok(Hashed { digest: content(path, &meta, cache)?, bytes: meta.len(), files: 1, manifest: None })
}

/// The digest of one file.
pub fn content(path: &Path, meta: &Metadata, cache: &StatCache) -> Result<Digest> {
    if let Some(digest) = cache.get(path, meta) {
        return Ok(digest);
    }
    let read_at = statcache::now();
    let hash = contents::hash(path, meta)?;
    let digest = Digest::file(hash, statcache::kind(meta) == Kind::Program);
    // `meta` was taken before reading: a file that changed meanwhile will not match it.
    cache.put(path, meta, &digest, Some(read_at));
    Ok(digest)
}

/// What `stat` says of a file that changes with its content, and what else can have changed its ctime.
///
/// Neither device nor inode: some network and user-space file systems give others after a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stamp {
    /// A hash of path, size and mtime.
    content: u64,
    ctime: i64,
    /// A hash of the number of links, mode and owner.
    about: u64,
}

impl Stamp {
    fn new(path: &Path, meta: &Metadata) -> Self {
        let hash = |numbers: &[u64], text: &[u8]| {
            let mut hasher = blake3::Hasher::new();
            for number in numbers {
                hasher.update(&number.to_le_bytes());
            }
            let hash = hasher.update(text).finalize();
            hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let (mtime, ctime) = (statcache::mtime(meta), statcache::ctime(meta));
        let content = hash(&[meta.len(), mtime as u64], path.as_os_str().as_bytes());
        let about = [meta.nlink(), u64::from(meta.mode()), u64::from(meta.uid()), u64::from(meta.gid())];
        Self { content, ctime, about: hash(&about, b"") }
    }

    /// Whether a file was left alone between this and `now`. A ctime that moved alone is the mark of a write whose mtime
    /// was put back, unless a new link, mode or owner explains it.
    pub fn same(&self, now: &Self) -> bool {
        self.content == now.content && (self.ctime == now.ctime || self.about != now.about)
    }

    /// One digest for the stamps of many files.
    pub fn sum(stamps: &[(PathBuf, Self)]) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for (_, stamp) in stamps {
            hasher.update(&stamp.content.to_le_bytes()).update(&stamp.ctime.to_le_bytes());
        }
        Digest::file(hasher.finalize(), false)
    }
}

/// The stamps of a file, or of every file in a folder, by path below it.
pub fn stamps(path: &Path, links: Links) -> Result<Vec<(PathBuf, Stamp)>> {
    let meta = fs::metadata(path).at("reading", path)?;
    if !meta.is_dir() {
        return Ok(vec![(PathBuf::new(), Stamp::new(Path::new(""), &meta))]);
    }
    let files = list(path, links)?.into_iter().filter_map(|(path, found)| match found {
        Found::File(meta) => Some((path.clone(), Stamp::new(&path, &meta))),
        Found::Folder | Found::Link(_) => None,
    });
    Ok(files.collect())
}

enum Found {
    Folder,
    File(Metadata),
    Link(PathBuf),
}

/// Everything in a folder, sorted by path.
fn list(path: &Path, links: Links) -> Result<Vec<(PathBuf, Found)>> {
    let mut walk = Walk { links, found: Vec::new(), depth: 0 };
    let folder = match links {
        Links::Keep => None,
        Links::Follow(_) | Links::Refuse => Some(Folder::new(path).at("finding", path)?),
    };
    let mut above: Vec<PathBuf> = folder.iter().map(|f| f.real().to_path_buf()).collect();
    walk.read(
        path,
        &Place { folder: folder.as_ref(), path: PathBuf::new(), below: PathBuf::new() },
        &mut above,
    )?;
    walk.found.sort_by(|a, b| a.0.as_os_str().cmp(b.0.as_os_str()));
    Ok(walk.found)
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

struct Walk<'a> {
    links: Links<'a>,
    found: Vec<(PathBuf, Found)>,
    depth: usize,
}

impl Walk<'_> {
    /// Reads a folder. `above` are the folders that links led to on the way here, without links.
    fn read(&mut self, root: &Path, place: &Place, above: &mut Vec<PathBuf>) -> Result<()> {
        let folder = root.join(&place.path);
        if self.depth > DEEPEST {
            return Err(Error::Depth(root.into()));
        }
        self.depth += 1;
        if let Links::Refuse = self.links {
            open_folder(&folder)?;
        }
        for entry in fs::read_dir(&folder).at("reading", &folder)? {
            let entry = entry.at("reading", &folder)?;
            let name = entry.file_name();
            let here =
                Place { folder: place.folder, below: place.below.join(&name), path: place.path.join(&name) };
            let full = entry.path();
            let kind = entry.file_type().at("reading", &full)?;
            if let Links::Follow(ignore) = self.links
                && ignore.matches(&here.path, kind.is_dir())
            {
                continue;
            }
            if kind.is_symlink() {
                self.link(root, &full, here, above)?;
                continue;
            }
            let meta = entry.metadata().at("reading", &full)?;
            if meta.is_dir() {
                self.found.push((here.path.clone(), Found::Folder));
                self.read(root, &here, above)?;
            } else if meta.is_file() {
                if let Links::Refuse = self.links {
                    open_file(&full, &meta)?;
                }
                self.found.push((here.path, Found::File(meta)));
            } else {
                return Err(special(&full, &meta));
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn link(&mut self, root: &Path, full: &Path, here: Place, above: &mut Vec<PathBuf>) -> Result<()> {
        let target = fs::read_link(full).at("reading", full)?;
        let Some(folder) = here.folder else {
            self.found.push((here.path, Found::Link(target)));
            return Ok(());
        };
        match folder.lead(&here.below, &target) {
            Lead::Inside(text) => {
                if let (Links::Refuse, true) = (self.links, text != target) {
                    fs::remove_file(full).at("replacing", full)?;
                    std::os::unix::fs::symlink(&text, full).at("linking", full)?;
                }
                self.found.push((here.path, Found::Link(text)));
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
                        self.found.push((here.path, Found::Link(target)));
                        return Ok(());
                    }
                    self.found.push((here.path.clone(), Found::Folder));
                    above.push(outside.real().to_path_buf());
                    let place = Place { folder: Some(&outside), below: PathBuf::new(), path: here.path };
                    self.read(root, &place, above)?;
                    above.pop();
                    Ok(())
                }
                Ok(meta) if meta.is_file() => {
                    self.found.push((here.path, Found::File(meta)));
                    Ok(())
                }
                Ok(meta) => Err(special(full, &meta)),
                Err(e) if leads_nowhere(&e) => {
                    self.found.push((here.path, Found::Link(target)));
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
fn special(path: &Path, meta: &Metadata) -> Error {
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
fn open_file(path: &Path, meta: &Metadata) -> Result<()> {
    if meta.mode() & 0o400 == 0 && meta.nlink() == 1 {
        let mode = Permissions::from_mode(meta.mode() & 0o777 | 0o400);
        fs::set_permissions(path, mode).at("opening", path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

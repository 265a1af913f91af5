//! What stands in a folder, as an input, as an output, or as a folder of the store.

use crate::digest::{Digest, Kind};
use crate::error::{Error, IoContext, Result};
use crate::ignore::Ignore;
use crate::links::{Folder, Lead};
use crate::manifest::{Entry, Item};
use crate::small_path::SmallPath;
use rayon::prelude::*;
use rustix::io::Errno;
use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Folders lie in each other at most so deep.
const DEEPEST: usize = 128;

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

/// Everything in a folder. What files hold, and how large they are, is yet to be read; they come in the order of their
/// inodes, in which most file systems and the stat cache have what is known of them.
pub(crate) fn list(path: &Path, links: Links) -> Result<Vec<Entry>> {
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
    walk.found.par_sort_unstable_by_key(|entry| match entry.item {
        Item::File(_, inode) => inode,
        Item::Folder | Item::Link(_) => 0,
    });
    Ok(walk.found)
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

struct Walk<'a> {
    links: Links<'a>,
    found: Vec<Entry>,
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
            let path =
                if place.path.as_os_str().is_empty() { name.clone().into() } else { place.path.join(&name) };
            let kind = entry.file_type().or_else(|e| Err(e).at("reading", &folder.join(&name)))?;
            if let Links::Follow(ignore) = self.links
                && ignore.matches(&path, kind.is_dir())
            {
                continue;
            }
            if kind.is_file() {
                self.push(path, unread(entry.ino()));
                continue;
            }
            let here = Place { folder: place.folder, below: place.below.join(&name), path };
            let full = entry.path();
            if kind.is_symlink() {
                self.link(root, &full, here, above)?;
            } else if kind.is_dir() {
                self.push(here.path.as_path(), Item::Folder);
                self.read(root, &here, above)?;
            } else {
                return Err(special(&full, &entry.metadata().at("reading", &full)?));
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn push(&mut self, path: impl Into<SmallPath>, item: Item) {
        self.found.push(Entry { path: path.into(), item });
    }

    fn link(&mut self, root: &Path, full: &Path, here: Place, above: &mut Vec<PathBuf>) -> Result<()> {
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
                    self.read(root, &place, above)?;
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

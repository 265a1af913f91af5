//! What a folder holds, in one canonical run of bytes.

use crate::digest::{Digest, Kind};
use crate::small_path::SmallPath;
use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// No tree is larger: sums of sizes stay far from what a number can hold.
pub const LARGEST: u64 = 1 << 53;
/// As many links may follow each other; the kernel's own limit.
const MOST: usize = 40;
/// So many names may lie before the end of a link, those of the links on its way included; no real one has as many.
const NAMES: usize = 1000;

/// Bytes of a manifest that are encoded at a time.
const SOME: usize = 1 << 16;

/// Separates the hashes of manifests from those of files with the same bytes. Version 1: the encoding below.
const DOMAIN: &str = "pipeline 2026 manifest of a tree, version 1";

/// Everything in a folder except its own name, sorted by path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest(pub Vec<Entry>);

/// One thing in a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Relative to the folder.
    pub path: SmallPath,
    /// What stands there.
    pub item: Item,
}

/// What can stand in a folder.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A folder; its content stands in entries of its own.
    Folder,
    /// A file and its size in bytes.
    File(Digest, u64),
    /// A symbolic link and its target.
    Link(PathBuf),
}

/// Where a link leads.
enum Way {
    /// To a place in its folder, or round in a circle.
    Inside,
    /// Elsewhere.
    Out,
    /// So far that nobody follows it.
    Long,
}

impl Manifest {
    /// Sum of the sizes of all files.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|e| if let Item::File(_, size) = e.item { size } else { 0 }).sum()
    }

    /// The contents of all files with their sizes; what stands twice comes twice.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, u64)> {
        self.0.iter().filter_map(|entry| match entry.item {
            Item::File(digest, size) => Some((digest, size)),
            Item::Folder | Item::Link(_) => None,
        })
    }

    /// The paths of what is not the same in another manifest.
    pub fn differences(&self, other: &Self) -> Vec<PathBuf> {
        let items = |manifest: &'_ Self| -> BTreeMap<PathBuf, Item> {
            manifest.0.iter().map(|entry| (entry.path.to_path_buf(), entry.item.clone())).collect()
        };
        let (old, new) = (items(self), items(other));
        let changed = new.iter().filter(|(path, item)| old.get(*path) != Some(item)).map(|(path, _)| path);
        let mut paths: Vec<PathBuf> =
            changed.chain(old.keys().filter(|path| !new.contains_key(*path))).cloned().collect();
        paths.sort();
        paths
    }

    /// Number of files.
    pub fn files(&self) -> u64 {
        self.0.iter().filter(|e| matches!(e.item, Item::File(..))).count() as u64
    }

    /// One byte of type, the path behind its length, then what the type has.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() * 80);
        self.0.iter().for_each(|entry| entry.encode(&mut out));
        out
    }

    /// Reads the manifest of a tree that comes from elsewhere, and believes nothing of it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(bytes: &[u8], digest: &Digest) -> Result<Self, String> {
        if digest_of(bytes) != *digest {
            return Err(format!("the list of files of {digest} is damaged"));
        }
        let manifest = Self::decode(bytes)
            .ok_or_else(|| format!("the list of files of {digest} is no list of a folder"))?;
        manifest.check().map_err(|why| format!("the list of files of {digest} is refused: {why}"))?;
        Ok(manifest)
    }

    /// Whether a folder can be made of it, with nothing outside of the folder touched or shown.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self) -> Result<(), String> {
        let mut total = 0_u64;
        for Entry { path, item } in &self.0 {
            match item {
                Item::Folder => {}
                Item::File(_, size) => {
                    total = total.saturating_add(*size);
                    if total > LARGEST {
                        return Err(format!("{path:?} makes it larger than any disk"));
                    }
                }
                Item::Link(target) => {
                    let text = target.as_os_str().as_bytes();
                    if text.is_empty() || text.len() >= LONGEST || text.contains(&0) {
                        return Err(format!("{path:?} is a link to nothing that has a name"));
                    }
                    match self.follow(path, text) {
                        Way::Inside => {}
                        Way::Out => {
                            return Err(format!(
                                "{path:?} is a link that leads out of the folder, to {target:?}"
                            ));
                        }
                        Way::Long => {
                            return Err(format!("{path:?} is a link over more than {NAMES} names"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Where a link leads, followed as the kernel would follow it, other links on its way included.
    fn follow(&self, link: &Path, target: &[u8]) -> Way {
        let mut place = link.as_os_str().as_bytes().to_vec();
        up(&mut place);
        // What is still to be gone, the next name last.
        let mut left: Vec<&[u8]> = Vec::new();
        let (mut next, mut followed, mut gone) = (Some(target), 0, 0);
        loop {
            if let Some(target) = next.take() {
                if target.starts_with(b"/") {
                    return Way::Out;
                }
                followed += 1;
                if followed > MOST {
                    // In a circle; whoever follows it is told so.
                    return Way::Inside;
                }
                left.extend(target.rsplit(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b".")));
            }
            if gone + left.len() > NAMES {
                return Way::Long;
            }
            gone += 1;
            match left.pop() {
                None => return Way::Inside,
                Some(b"..") if place.is_empty() => return Way::Out,
                Some(b"..") => up(&mut place),
                Some(name) => {
                    if !place.is_empty() {
                        place.push(b'/');
                    }
                    place.extend(name);
                    if let Some(Item::Link(target)) = self.item(&place) {
                        up(&mut place);
                        next = Some(target.as_os_str().as_bytes());
                    }
                }
            }
        }
    }

    fn item(&self, path: &[u8]) -> Option<&Item> {
        let found = self.0.binary_search_by(|entry| entry.path.as_os_str().as_bytes().cmp(path));
        Some(&self.0[found.ok()?].item)
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else. Names are those that a folder can have, and
    /// what lies in a folder stands behind it.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut folders: HashSet<PathBuf> = HashSet::new();
        while let Some((kind, rest)) = bytes.split_first() {
            bytes = rest;
            let path = path(&mut bytes)?;
            let item = match kind {
                b'd' => Item::Folder,
                b'f' | b'x' => {
                    let size = u64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?);
                    let hash = take(&mut bytes, 32)?.try_into().ok()?;
                    let kind = if *kind == b'x' { Kind::Program } else { Kind::File };
                    Item::File(Digest { kind, hash }, size)
                }
                b'l' => Item::Link(self::path(&mut bytes)?.into()),
                _ => return None,
            };
            let sorted = entries.last().is_none_or(|last| last.path.as_os_str() < path.as_os_str());
            let parent = path.parent().is_none_or(|p| p.as_os_str().is_empty() || folders.contains(p));
            if !proper(path.as_os_str().as_bytes()) || !sorted || !parent {
                return None;
            }
            if item == Item::Folder {
                folders.insert(path.to_path_buf());
            }
            entries.push(Entry { path: path.into(), item });
        }
        Some(Self(entries))
    }

    /// Hands what [`encode`](Self::encode) gives on piece by piece, so that a large one is not held encoded.
    pub(crate) fn pieces<E>(&self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut some = Vec::with_capacity(2 * SOME);
        for entry in &self.0 {
            entry.encode(&mut some);
            if some.len() >= SOME {
                take(&some)?;
                some.clear();
            }
        }
        take(&some)
    }

    /// The name of a folder with this content.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        let Ok(()) = self.pieces(|piece| {
            hasher.update(piece);
            Ok::<_, Infallible>(())
        });
        Digest { kind: Kind::Tree, hash: *hasher.finalize().as_bytes() }
    }
}

impl Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match &self.item {
            Item::Folder => b'd',
            Item::File(digest, _) if digest.kind == Kind::Program => b'x',
            Item::File(..) => b'f',
            Item::Link(_) => b'l',
        });
        text(out, &self.path);
        match &self.item {
            Item::Folder => {}
            Item::File(digest, size) => {
                out.extend(size.to_le_bytes());
                out.extend(digest.hash);
            }
            Item::Link(target) => text(out, target),
        }
    }
}

/// The longest path that the kernel takes, with the byte that ends it.
const LONGEST: usize = 4096;
/// The longest name of a file.
const NAME: usize = 255;

/// Whether a path is one below a folder, in the one way of writing it.
fn proper(path: &[u8]) -> bool {
    let good = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() <= NAME && !name.contains(&0);
    path.len() < LONGEST && path.split(|b| *b == b'/').all(good)
}

/// Takes the last name off a path.
fn up(path: &mut Vec<u8>) {
    path.truncate(path.iter().rposition(|b| *b == b'/').unwrap_or(0));
}

/// The digest of an encoded manifest.
pub fn digest_of(encoded: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
    hasher.update(encoded);
    Digest { kind: Kind::Tree, hash: *hasher.finalize().as_bytes() }
}

fn text(out: &mut Vec<u8>, path: &Path) {
    let bytes = path.as_os_str().as_bytes();
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(head)
}

fn path<'a>(bytes: &mut &'a [u8]) -> Option<&'a Path> {
    let length = u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?);
    take(bytes, length as usize).map(|b| Path::new(OsStr::from_bytes(b)))
}

#[cfg(test)]
mod tests;

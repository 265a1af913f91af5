//! What a folder holds, in one canonical run of bytes.

use crate::digest::{Digest, Kind};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// No tree is larger: sums of sizes stay far from what a number can hold.
pub const LARGEST: u64 = 1 << 53;
/// So many steps are taken along a link; one that needs more leads nowhere that is of use.
const STEPS: usize = 1000;

/// Bytes of a manifest that are hashed at a time, so that a large one is not held encoded.
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
    pub path: PathBuf,
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
            manifest.0.iter().map(|entry| (entry.path.clone(), entry.item.clone())).collect()
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
                    if self.leads_out(path, text) {
                        return Err(format!(
                            "{path:?} is a link that leads out of the folder, to {target:?}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a link leads out, followed as the kernel would follow it, other links on its way included.
    fn leads_out(&self, link: &Path, target: &[u8]) -> bool {
        let mut place: Vec<&[u8]> = link.as_os_str().as_bytes().split(|b| *b == b'/').collect();
        place.pop();
        let mut open: Vec<&[u8]> = target.rsplit(|b| *b == b'/').collect();
        if target.starts_with(b"/") {
            return true;
        }
        for _ in 0..STEPS {
            match open.pop() {
                None => return false,
                Some(b"" | b".") => {}
                Some(b"..") if place.pop().is_none() => return true,
                Some(b"..") => {}
                Some(name) => {
                    place.push(name);
                    if let Some(Item::Link(next)) = self.item(&place.join(&b'/')) {
                        let next = next.as_os_str().as_bytes();
                        if next.starts_with(b"/") {
                            return true;
                        }
                        place.pop();
                        open.extend(next.rsplit(|b| *b == b'/'));
                    }
                }
            }
        }
        // In a circle; whoever follows it is told so.
        false
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
                b'l' => Item::Link(self::path(&mut bytes)?),
                _ => return None,
            };
            let sorted = entries.last().is_none_or(|last| last.path.as_os_str() < path.as_os_str());
            let parent = path.parent().is_none_or(|p| p.as_os_str().is_empty() || folders.contains(p));
            if !proper(path.as_os_str().as_bytes()) || !sorted || !parent {
                return None;
            }
            if item == Item::Folder {
                folders.insert(path.clone());
            }
            entries.push(Entry { path, item });
        }
        Some(Self(entries))
    }

    /// The name of a folder with this content.
    pub fn digest(&self) -> Digest {
        let (mut hasher, mut some) = (blake3::Hasher::new_derive_key(DOMAIN), Vec::with_capacity(2 * SOME));
        for entry in &self.0 {
            entry.encode(&mut some);
            if some.len() >= SOME {
                hasher.update(&some);
                some.clear();
            }
        }
        Digest { kind: Kind::Tree, hash: *hasher.update(&some).finalize().as_bytes() }
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

fn path(bytes: &mut &[u8]) -> Option<PathBuf> {
    let length = u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?);
    take(bytes, length as usize).map(|b| OsStr::from_bytes(b).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_round_trip() {
        let file = |b| Digest { kind: Kind::File, hash: [b; 32] };
        let manifest = Manifest(vec![
            Entry { path: "a".into(), item: Item::Folder },
            Entry { path: "a/x".into(), item: Item::File(file(1), 5) },
            Entry { path: "b".into(), item: Item::Link("a/x".into()) },
        ]);
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Some(manifest));
        for n in 1..bytes.len() {
            // A cut either falls between entries or is noticed.
            assert!(Manifest::decode(&bytes[..n]).is_none_or(|m| m.0.len() < 3));
        }
    }

    fn of(entries: &[(&str, &str)]) -> Vec<u8> {
        let file = Digest { kind: Kind::File, hash: [1; 32] };
        let entry = |(path, what): &(&str, &str)| {
            let item = match *what {
                "folder" => Item::Folder,
                "file" => Item::File(file, 1),
                target => Item::Link(target.into()),
            };
            Entry { path: path.into(), item }
        };
        Manifest(entries.iter().map(entry).collect()).encode()
    }

    #[test]
    fn names_that_no_folder_has_are_refused() {
        let (long, path) = ("x".repeat(256), "x/".repeat(2100) + "x");
        let names = [
            "",
            ".",
            "..",
            "../x",
            "/x",
            "a/",
            "a//b",
            "a/./b",
            "a/../b",
            "a\0",
            long.as_str(),
            path.as_str(),
        ];
        for name in names {
            let list = of(&[("a", "folder"), (name, "file")]);
            let alone = of(&[(name, "file")]);
            assert!(Manifest::decode(&list).is_none() && Manifest::decode(&alone).is_none(), "{name:?}");
        }
        let longest = "x".repeat(255);
        assert!(Manifest::decode(&of(&[(&longest, "file")])).is_some());
        // What lies in no folder, in a file, or in a link; twice, or out of order.
        let bad: [&[(&str, &str)]; 5] = [
            &[("a/x", "file")],
            &[("a", "file"), ("a/x", "file")],
            &[("a", "/etc"), ("a/x", "file")],
            &[("a", "file"), ("a", "file")],
            &[("b", "file"), ("a", "file")],
        ];
        for list in bad {
            assert!(Manifest::decode(&of(list)).is_none(), "{list:?}");
        }
    }

    #[test]
    fn links_that_lead_out_are_refused_however_they_do() {
        let refused = |entries: &[(&str, &str)]| {
            let list = of(entries);
            Manifest::parse(&list, &digest_of(&list)).is_err()
        };
        for target in ["/etc/passwd", "..", "../x", "./../../x", "d/../../x", "d/up/d/up/..", "nothing/../.."]
        {
            assert!(refused(&[("d", "folder"), ("d/up", ".."), ("l", target)]), "{target}");
        }
        // Word by word each of these stays inside; followed, the second leads out by the first.
        assert!(refused(&[("d", "folder"), ("d/e", "folder"), ("d/e/root", "../.."), ("l", "d/e/root/..")]));
        for target in ["d", "d/x", "./d/../d", "d/e/root/d", "nothing", "l"] {
            let list = [("d", "folder"), ("d/e", "folder"), ("d/e/root", "../.."), ("l", target)];
            assert!(!refused(&list), "{target}");
        }
        let wrong = of(&[("a", "file")]);
        assert!(Manifest::parse(&wrong, &digest_of(b"other")).is_err());
    }

    #[test]
    fn no_bytes_make_a_reader_panic() {
        let mut state: u64 = 1 << 40;
        let mut random = || {
            state += 1;
            let hash = blake3::hash(&state.to_le_bytes());
            usize::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
        };
        for _ in 0..20_000 {
            let length = random() % 60;
            let bytes: Vec<u8> = (0..length).map(|_| b"dfxl\0\x01$/{}.ai'\\ "[random() % 16]).collect();
            if let Some(manifest) = Manifest::decode(&bytes) {
                assert_eq!(manifest.encode(), bytes);
            }
            let _ = String::from_utf8_lossy(&bytes).parse::<Digest>();
        }
    }
}

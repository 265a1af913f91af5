//! What a folder holds, in one canonical run of bytes.

use crate::digest::{Digest, Kind};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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

    /// Number of files.
    pub fn files(&self) -> u64 {
        self.0.iter().filter(|e| matches!(e.item, Item::File(..))).count() as u64
    }

    /// One byte of type, the path behind its length, then what the type has.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() * 80);
        for Entry { path, item } in &self.0 {
            out.push(match item {
                Item::Folder => b'd',
                Item::File(digest, _) if digest.kind == Kind::Program => b'x',
                Item::File(..) => b'f',
                Item::Link(_) => b'l',
            });
            text(&mut out, path);
            match item {
                Item::Folder => {}
                Item::File(digest, size) => {
                    out.extend(size.to_le_bytes());
                    out.extend(digest.hash);
                }
                Item::Link(target) => text(&mut out, target),
            }
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut entries: Vec<Entry> = Vec::new();
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
            let inside = path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
            let sorted = entries.last().is_none_or(|last| last.path.as_os_str() < path.as_os_str());
            if !inside || !sorted || path.as_os_str().is_empty() {
                return None;
            }
            entries.push(Entry { path, item });
        }
        Some(Self(entries))
    }

    /// The name of a folder with this content.
    pub fn digest(&self) -> Digest {
        digest_of(&self.encode())
    }
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
        let up = Manifest(vec![Entry { path: "../x".into(), item: Item::Folder }]);
        assert_eq!(Manifest::decode(&up.encode()), None);
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

//! Which small files of a folder travel together. It depends on the files alone, so whoever sends a folder makes the same
//! packs of it, and a change of one file changes one pack.

use store::digest::Digest;

/// A larger file is an object of its own.
pub const SMALL: u64 = 512 << 10;
/// How large a pack becomes on average, and at the most.
const USUAL: u64 = 2 << 20;
pub const LARGEST: u64 = 8 << 20;
/// A smaller one is not closed while there are files.
const LEAST: u64 = 512 << 10;
/// What a file counts beside its bytes.
const EACH: u64 = 128;

/// Separates the names of packs from the hashes of files.
const DOMAIN: &str = "pipeline 2026 files of a pack, version 1";

/// Small files, one behind the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Pack {
    /// The hash of what it holds, by digests and sizes.
    pub name: [u8; 32],
    pub files: Vec<(Digest, u64)>,
    pub bytes: u64,
}

impl Pack {
    fn of(files: Vec<(Digest, u64)>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        for (digest, bytes) in &files {
            hasher.update(&digest.hash).update(&bytes.to_le_bytes());
        }
        let bytes = files.iter().map(|(_, bytes)| bytes).sum();
        Self { name: *hasher.finalize().as_bytes(), files, bytes }
    }

    /// Its files, and where each begins.
    pub fn places(&self) -> impl Iterator<Item = (&Digest, u64)> {
        self.files.iter().scan(0, |end, (digest, bytes)| {
            let start = *end;
            *end += bytes;
            Some((digest, start))
        })
    }
}

/// Cuts a run of small files, each of which comes once, into packs. Where it is cut the contents say.
pub fn cut(files: impl IntoIterator<Item = (Digest, u64)>) -> Vec<Pack> {
    let (mut packs, mut open, mut weight, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
    for (digest, size) in files {
        if bytes + size > LARGEST {
            packs.push(Pack::of(std::mem::take(&mut open)));
            (weight, bytes) = (0, 0);
        }
        open.push((digest, size));
        (weight, bytes) = (weight + size + EACH, bytes + size);
        if weight >= LARGEST || (weight >= LEAST && ends(&digest, size + EACH)) {
            packs.push(Pack::of(std::mem::take(&mut open)));
            (weight, bytes) = (0, 0);
        }
    }
    if !open.is_empty() {
        packs.push(Pack::of(open));
    }
    packs
}

/// Whether a pack ends behind a file: the more it weighs, the more often.
fn ends(digest: &Digest, weight: u64) -> bool {
    let [a, b, c, d, ..] = digest.hash;
    u64::from(u32::from_le_bytes([a, b, c, d])) * USUAL < weight << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn files(count: u64, size: u64) -> Vec<(Digest, u64)> {
        (0..count).map(|i| (Digest::file(blake3::hash(&i.to_le_bytes()), false), size)).collect()
    }

    #[test]
    fn packs_hold_every_file_once_in_order_and_are_neither_large_nor_many() {
        for (count, size, most) in
            [(10_000, 1024, 20), (3000, 100_000, 300), (64, SMALL, 32), (9, 0, 1), (0, 0, 0)]
        {
            let files = files(count, size);
            let packs = cut(files.clone());
            assert!(packs.len() <= most, "{count} × {size}: {}", packs.len());
            assert!(packs.iter().all(|pack| pack.bytes <= LARGEST && !pack.files.is_empty()));
            assert_eq!(packs.iter().flat_map(|pack| pack.files.clone()).collect::<Vec<_>>(), files);
            assert_eq!(packs, cut(files));
        }
    }

    #[test]
    fn places_stand_one_behind_the_other() {
        let pack = Pack::of(files(4, 10));
        assert_eq!(pack.places().map(|(_, at)| at).collect::<Vec<_>>(), [0, 10, 20, 30]);
        assert_eq!(pack.bytes, 40);
    }

    #[test]
    fn one_file_changes_few_packs() {
        let before = files(20_000, 1024);
        let names = |packs: &[Pack]| packs.iter().map(|pack| pack.name).collect::<HashSet<_>>();
        let old = names(&cut(before.clone()));
        let changed = (Digest::file(blake3::hash(b"changed"), false), 1024);
        let mut replaced = before.clone();
        replaced[7000] = changed;
        let mut inserted = before.clone();
        inserted.insert(7000, changed);
        let mut removed = before;
        removed.remove(7000);
        for now in [replaced, inserted, removed] {
            let packs = cut(now);
            let new = names(&packs);
            assert!(
                packs.len() > 6 && new.difference(&old).count() <= 2,
                "{} of {}",
                new.difference(&old).count(),
                packs.len()
            );
        }
    }

    /// Other machines share the cache: what this says must never change.
    #[test]
    fn packs_are_named_as_ever() {
        let packs = cut(files(3000, 1024));
        let names: Vec<_> =
            packs.iter().map(|pack| blake3::Hash::from_bytes(pack.name).to_hex()[..8].to_string()).collect();
        assert_eq!(names, ["979a8e5a", "99bd8bd5"]);
    }
}

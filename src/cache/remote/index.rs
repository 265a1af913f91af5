//! What a cache says of a folder: what it holds, and where in which pack its small files lie.
//!
//! ```text
//! "pipeline tree 2\n"
//! u64 length, and the manifest of the folder
//! u32 number of packs, and of each: name (32 bytes), u64 size
//! of each different content of the manifest, in its order: u32 pack (2³²−1: it is a blob), u32 place in it
//! BLAKE3 of all that (32 bytes)
//! ```
//!
//! Numbers are little-endian.

use crate::cache::remote::pack::LARGEST;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use store::digest::Digest;
use store::manifest::Manifest;

/// The beginning of what is said of a folder.
const MAGIC: &[u8] = b"pipeline tree 2\n";
/// In the place of a pack: the content is a blob.
const BLOB: u32 = u32::MAX;

/// A stretch of a pack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Which one, of the index.
    pub pack: u32,
    pub start: u32,
}

/// Where the small files of a folder lie, by their hashes. Those that are missing are blobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// Names and sizes.
    pub packs: Vec<([u8; 32], u64)>,
    pub places: HashMap<[u8; 32], Place>,
}

impl Index {
    /// The bytes of an object that says what is known of a folder.
    pub fn encode(&self, manifest: &Manifest) -> Vec<u8> {
        let listed = manifest.encode();
        let mut out = Vec::with_capacity(MAGIC.len() + 2 * listed.len());
        out.extend(MAGIC);
        out.extend((listed.len() as u64).to_le_bytes());
        out.extend(listed);
        out.extend((self.packs.len() as u32).to_le_bytes());
        for (name, bytes) in &self.packs {
            out.extend(name);
            out.extend(bytes.to_le_bytes());
        }
        for (digest, _) in contents(manifest) {
            let place = self.places.get(&digest.hash);
            let Place { pack, start } = place.copied().unwrap_or(Place { pack: BLOB, start: 0 });
            out.extend(pack.to_le_bytes());
            out.extend(start.to_le_bytes());
        }
        let check = blake3::hash(&out);
        out.extend(check.as_bytes());
        out
    }

    /// Reads what a cache says of the folder `tree`, and believes nothing of it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(bytes: &[u8], tree: &Digest) -> Result<(Manifest, Self), String> {
        let of = |why: &str| format!("what the cache says of {tree} {why}");
        let (said, check) = bytes.split_last_chunk::<32>().ok_or_else(|| of("is cut off"))?;
        if blake3::hash(said).as_bytes() != check {
            return Err(of("is damaged"));
        }
        let mut rest = said.strip_prefix(MAGIC).ok_or_else(|| of("is of another version"))?;
        let cut = || of("is cut off");
        let length = u64::from_le_bytes(take(&mut rest).ok_or_else(cut)?);
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.len()).ok_or_else(cut)?;
        let (listed, mut rest) = rest.split_at(length);
        let manifest = Manifest::parse(listed, tree)?;
        let index = Self::read(&mut rest, &manifest).ok_or_else(cut)?;
        if !rest.is_empty() {
            return Err(of("has something behind it"));
        }
        index.check(&manifest).map_err(of)?;
        Ok((manifest, index))
    }

    /// In which pack a content of a size lies, and where.
    pub fn place(&self, digest: &Digest, bytes: u64) -> Option<(u32, Range<u64>)> {
        let Place { pack, start } = *self.places.get(&digest.hash)?;
        let range = u64::from(start)..u64::from(start).checked_add(bytes)?;
        // A manifest may give one content two sizes.
        (range.end <= self.packs.get(pack as usize)?.1).then_some((pack, range))
    }

    fn read(rest: &mut &[u8], manifest: &Manifest) -> Option<Self> {
        let count = u32::from_le_bytes(take(rest)?) as usize;
        // Nothing is kept ready for a number that the bytes cannot have.
        let mut packs = Vec::with_capacity(count.min(rest.len() / 40));
        for _ in 0..count {
            packs.push((take(rest)?, u64::from_le_bytes(take(rest)?)));
        }
        let mut places = HashMap::new();
        for (digest, _) in contents(manifest) {
            let (pack, start) = (u32::from_le_bytes(take(rest)?), u32::from_le_bytes(take(rest)?));
            match (pack, start) {
                (BLOB, 0) => {}
                (BLOB, _) => return None,
                _ => drop(places.insert(digest.hash, Place { pack, start })),
            }
        }
        Some(Self { packs, places })
    }

    /// Whether every place can be: in a pack of a size that packs have, and no two files in the same bytes.
    fn check(&self, manifest: &Manifest) -> Result<(), &'static str> {
        let names: HashSet<_> = self.packs.iter().map(|(name, _)| name).collect();
        if names.len() != self.packs.len() {
            return Err("names a pack twice");
        }
        if self.packs.iter().any(|(_, bytes)| *bytes > LARGEST) {
            return Err("names a pack that is larger than any");
        }
        let mut taken = Vec::with_capacity(self.places.len());
        for (digest, bytes) in contents(manifest) {
            let Some(place) = self.places.get(&digest.hash) else { continue };
            let Some((_, whole)) = self.packs.get(place.pack as usize) else {
                return Err("puts a file into no pack");
            };
            let start = u64::from(place.start);
            let end = start.saturating_add(bytes);
            if end > *whole {
                return Err("puts a file beyond the end of a pack");
            }
            taken.push((place.pack, start, end));
        }
        taken.sort_unstable();
        if taken.windows(2).any(|two| two[0].0 == two[1].0 && two[1].1 < two[0].2) {
            return Err("puts two files into the same bytes of a pack");
        }
        taken.dedup_by_key(|(pack, ..)| *pack);
        if taken.len() != self.packs.len() {
            return Err("names a pack of which nothing is used");
        }
        Ok(())
    }
}

/// The different contents of a manifest with their sizes, in its order.
pub fn contents(manifest: &Manifest) -> impl Iterator<Item = (Digest, u64)> {
    let mut seen = HashSet::new();
    manifest.blobs().filter(move |(digest, _)| seen.insert(digest.hash))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::remote::pack::cut;
    use store::manifest::{Entry, Item};

    fn folder(count: u64) -> Manifest {
        let entry = |i: u64| {
            let digest = Digest::file(blake3::hash(&i.to_le_bytes()), false);
            Entry { path: format!("{i:04}").into(), item: Item::File(digest, 100 + i % 3) }
        };
        Manifest((0..count).map(entry).collect())
    }

    fn packed(manifest: &Manifest) -> Index {
        let mut index = Index::default();
        for pack in cut(contents(manifest)) {
            let number = index.packs.len() as u32;
            index.packs.push((pack.name, pack.bytes));
            let place =
                |(digest, start): (&Digest, u64)| (digest.hash, Place { pack: number, start: start as u32 });
            index.places.extend(pack.places().map(place));
        }
        index
    }

    #[test]
    fn what_was_written_is_read() {
        for count in [0, 1, 2, 500, 9000] {
            let manifest = folder(count);
            for index in [packed(&manifest), Index::default()] {
                let bytes = index.encode(&manifest);
                assert_eq!(Index::parse(&bytes, &manifest.digest()), Ok((manifest.clone(), index)));
            }
        }
    }

    #[test]
    fn damage_and_another_folder_are_refused() {
        let manifest = folder(5);
        let good = packed(&manifest).encode(&manifest);
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 1;
            assert!(Index::parse(&bad, &manifest.digest()).is_err(), "byte {i}");
            assert!(Index::parse(&good[..i], &manifest.digest()).is_err(), "cut at {i}");
        }
        assert!(Index::parse(&good, &folder(6).digest()).is_err());
    }

    /// The checksum is right; what is said is not.
    #[test]
    fn lies_are_refused() {
        let manifest = folder(9);
        let said = |change: fn(&mut Index)| {
            let mut index = packed(&manifest);
            change(&mut index);
            Index::parse(&index.encode(&manifest), &manifest.digest()).unwrap_err()
        };
        let first = |index: &mut Index| index.places.values_mut().for_each(|place| place.start = 0);
        assert!(said(first).contains("the same bytes"));
        assert!(said(|index| index.packs[0].1 = 700).contains("beyond the end"));
        assert!(said(|index| index.packs[0].1 = u64::MAX).contains("larger than any"));
        assert!(said(|index| index.packs.push(index.packs[0])).contains("twice"));
        assert!(said(|index| index.packs.push(([1; 32], 5))).contains("nothing is used"));
        let far = |index: &mut Index| index.places.values_mut().for_each(|place| place.start = u32::MAX);
        assert!(said(far).contains("beyond the end"));
        let none = |index: &mut Index| index.places.values_mut().for_each(|place| place.pack = 1);
        assert!(said(none).contains("no pack"));

        let again = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = packed(&manifest).encode(&manifest);
            bytes.truncate(bytes.len() - 32);
            change(&mut bytes);
            let check = blake3::hash(&bytes);
            bytes.extend(check.as_bytes());
            Index::parse(&bytes, &manifest.digest()).unwrap_err()
        };
        assert!(again(&|bytes| bytes.push(0)).contains("behind it"));
        assert!(again(&|bytes| bytes[16..24].fill(0xff)).contains("cut off"));
        let listed = 24 + manifest.encode().len();
        // Four thousand million packs.
        assert!(again(&|bytes| bytes[listed..listed + 4].fill(0xff)).contains("cut off"));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let manifest = folder(3);
        let good = packed(&manifest).encode(&manifest);
        for seed in 0..20_000_u64 {
            let mut bytes = good[..good.len() - 32].to_vec();
            let hash = blake3::hash(&seed.to_le_bytes());
            for change in hash.as_bytes().chunks(4) {
                let at = usize::from(change[0]) + usize::from(change[1]) * 2;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = change[2];
                }
            }
            bytes.truncate(bytes.len() - usize::from(hash.as_bytes()[31] % 9));
            let check = blake3::hash(&bytes);
            bytes.extend(check.as_bytes());
            let _ = Index::parse(&bytes, &manifest.digest());
        }
    }
}

//! Sending a result to the cache: what it lacks, and the record last.

use crate::cache::error::Result;
use crate::cache::remote::index::{Index, Place, contents};
use crate::cache::remote::layout::{self, Format};
use crate::cache::remote::moves::{Move, Upload};
use crate::cache::remote::pack::{SMALL, cut};
use crate::cache::remote::progress::Progress;
use crate::cache::remote::{Remote, side_by_side};
use crate::cache::results::ActionResult;
use std::collections::{BTreeMap, HashMap};
use store::digest::{Digest, Kind};
use store::{IoContext, Key, Store, record};

/// What folders like one have is asked where its small files have more bytes; sending less is as cheap as asking.
const WORTH_ASKING: u64 = 64 << 10;
/// What the cache says of a folder that is much larger is not read for what the two may share.
const ALIKE: u64 = 8;
/// No name of a folder that is like another is longer.
const NAME: u64 = 256;
/// A folder's files may lie in so many packs, and in so many for each that they would fill; those of others are sent
/// again, so that they are near each other.
const SCATTERED: usize = 16;
const SCATTERED_EACH: usize = 4;

/// A folder on its way: what the cache is to say of it, unless it does already, and what it lacks.
struct Sending {
    tree: Digest,
    said: Option<Vec<u8>>,
    uploads: Vec<Upload>,
    /// Files by which folders like it find it.
    marks: Vec<[u8; 32]>,
    files: u64,
}

impl Remote {
    /// Sends what an action gave, unless the cache has it. Returns whether it has it now from here.
    pub fn send(
        &self,
        store: &Store,
        key: &Key,
        outcome: &ActionResult,
        progress: &dyn Progress,
    ) -> Result<bool> {
        let client = self.client()?;
        if let Some((format, bytes)) = self.record(key)? {
            let there = record::parse::<ActionResult>(&bytes);
            // The first result of an action is everybody's; a broken one is written over.
            if there.is_some_and(|there| there.action.key() == *key) && !self.is_damaged(&format.record(key))
            {
                return Ok(false);
            }
        }
        let (mut uploads, mut trees) = (BTreeMap::new(), Vec::new());
        for output in outcome.outputs.values() {
            match output.digest.kind {
                Kind::Tree => trees.push(output.digest),
                _ => drop(
                    uploads.insert(layout::blob(&output.digest), file(store, &output.digest, output.bytes)),
                ),
            }
        }
        trees.sort_unstable();
        trees.dedup();
        let mut trees = side_by_side(&trees, |tree| self.folder(store, tree))?;
        for upload in trees.iter_mut().flat_map(|tree| std::mem::take(&mut tree.uploads)) {
            uploads.insert(upload.object().to_string(), upload);
        }
        client.upload(uploads.into_values().collect(), |object| self.is_damaged(object), progress)?;
        side_by_side(&trees, |sending| match &sending.said {
            Some(said) => client.write(&Format::V2.tree(&sending.tree), said.clone()),
            None => Ok(()),
        })?;
        let marks = trees.iter().flat_map(|sending| sending.marks.iter().map(move |mark| (mark, sending)));
        side_by_side(&marks.collect::<Vec<_>>(), |(mark, Sending { tree, files, .. })| {
            client.write(&layout::near(mark), format!("{tree} {files}\n").into_bytes())
        })?;
        let object = Format::V2.record(key);
        client.write(&object, record::encode(outcome).at("encoding the record of", &store.path)?)?;
        self.lock().remove(&object);
        Ok(true)
    }

    pub(super) fn is_damaged(&self, object: &str) -> bool {
        self.lock().contains(object)
    }

    /// What is to be sent of a folder. Large files are blobs; of the small ones those that a pack in the cache has stay
    /// there, and the others are put into packs.
    fn folder(&self, store: &Store, tree: &Digest) -> Result<Sending> {
        let manifest = store.manifest(tree).ok_or(store::Error::NoManifest(*tree))?;
        let (mut small, large): (Vec<_>, Vec<_>) =
            contents(&manifest).partition(|(_, bytes)| *bytes <= SMALL);
        let mut uploads: Vec<_> = large.iter().map(|(digest, bytes)| file(store, digest, *bytes)).collect();
        let mut sending = Sending {
            tree: *tree,
            said: None,
            uploads: Vec::new(),
            marks: Vec::new(),
            files: manifest.files(),
        };
        let (mut index, mut before) = (Index::default(), None);
        if small.iter().map(|(_, bytes)| bytes).sum::<u64>() > WORTH_ASKING {
            sending.marks = marks(&small);
            let known = match self.tree(Format::V2, tree)? {
                Some((_, known)) => before.insert(known).clone(),
                None => self.alike(&sending)?.unwrap_or_default(),
            };
            index = self.usable(known, &small)?;
            small.retain(|(digest, _)| !index.places.contains_key(&digest.hash));
        }
        // One alone may be in other folders as well.
        if let [(digest, bytes)] = small.as_slice() {
            uploads.push(file(store, digest, *bytes));
            small.clear();
        }
        for pack in cut(small) {
            let number = index.packs.len() as u32;
            index.packs.push((pack.name, pack.bytes));
            // A pack is far smaller than 4 GiB.
            let place =
                |(digest, start): (&Digest, u64)| (digest.hash, Place { pack: number, start: start as u32 });
            index.places.extend(pack.places().map(place));
            uploads.push(Upload::pack(pack, |digest| store.place(digest)));
        }
        if before.as_ref() == Some(&index) {
            sending.marks.clear();
        } else {
            sending.said = Some(index.encode(&manifest));
        }
        Ok(Sending { uploads, ..sending })
    }

    /// Where the files of a folder lie that is like one, if the cache knows such a folder.
    fn alike(&self, sending: &Sending) -> Result<Option<Index>> {
        let client = self.client()?;
        let named = side_by_side(&sending.marks, |mark| client.read(&layout::near(mark), NAME))?;
        let named = named.into_iter().flatten().filter_map(|bytes| {
            let text = String::from_utf8(bytes).ok()?;
            let (tree, files) = text.trim_end().split_once(' ')?;
            let files: u64 = files.parse().ok()?;
            let tree: Digest = tree.parse().ok().filter(|tree: &Digest| tree.kind == Kind::Tree)?;
            (files / ALIKE <= sending.files).then_some(tree)
        });
        for tree in named {
            if let Some((_, index)) = self.tree(Format::V2, &tree)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// What of an index serves some files: the packs that are there and hold some of them, if these are not too many.
    fn usable(&self, known: Index, files: &[(Digest, u64)]) -> Result<Index> {
        let mut used: BTreeMap<u32, u64> = BTreeMap::new();
        for (digest, bytes) in files {
            if let Some((pack, _)) = known.place(digest, *bytes) {
                *used.entry(pack).or_default() += bytes + 1;
            }
        }
        let mut packs: Vec<(u64, u32)> = used.into_iter().map(|(pack, bytes)| (bytes, pack)).collect();
        packs.sort_unstable_by(|a, b| b.cmp(a));
        let most = SCATTERED.max(SCATTERED_EACH * cut(files.iter().copied()).len());
        packs.truncate(most);
        packs.sort_unstable_by_key(|(_, pack)| *pack);
        let objects: Vec<(String, u64)> = packs
            .iter()
            .map(|(_, pack)| known.packs[*pack as usize])
            .map(|(name, bytes)| (layout::pack(&name), bytes))
            .collect();
        let there = self.client()?.are_there(&objects)?;
        let (mut index, mut numbers) = (Index::default(), HashMap::new());
        for (((_, pack), (object, _)), _) in
            packs.iter().zip(&objects).zip(&there).filter(|(_, there)| **there)
        {
            if !self.is_damaged(object) {
                numbers.insert(*pack, index.packs.len() as u32);
                index.packs.push(known.packs[*pack as usize]);
            }
        }
        for (digest, bytes) in files {
            if let Some((pack, range)) = known.place(digest, *bytes)
                && let Some(number) = numbers.get(&pack)
            {
                index.places.insert(digest.hash, Place { pack: *number, start: range.start as u32 });
            }
        }
        Ok(index)
    }
}

/// The smallest and the largest hash: folders that share most files share these most likely.
fn marks(files: &[(Digest, u64)]) -> Vec<[u8; 32]> {
    let hashes = || files.iter().map(|(digest, _)| digest.hash);
    let mut marks: Vec<_> = hashes().min().into_iter().chain(hashes().max()).collect();
    marks.dedup();
    marks
}

fn file(store: &Store, digest: &Digest, bytes: u64) -> Upload {
    Upload::File(Move { object: layout::blob(digest), file: store.place(digest), bytes })
}

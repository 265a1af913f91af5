//! Bringing a result from the cache into the store.

use crate::cache::error::Result;
use crate::cache::remote::index::Index;
use crate::cache::remote::layout::{self, Format};
use crate::cache::remote::moves::{Download, Move, Piece, Stretch};
use crate::cache::remote::progress::Progress;
use crate::cache::remote::{LIST, Remote};
use crate::cache::results::{self, ActionResult};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use store::digest::{Digest, Kind};
use store::manifest::Manifest;
use store::walk::Hashed;
use store::{Key, Store, link, record};

/// Between two files of a pack so much that nobody wants is fetched with them, for one request less.
const GAP: u64 = 64 << 10;

/// A result that the cache has.
struct Found {
    outcome: ActionResult,
    format: Format,
    /// What its folders hold, and where, as far as that was asked.
    trees: BTreeMap<Digest, (Manifest, Option<Index>)>,
}

/// A content that is on its way.
struct Wanted {
    digest: Digest,
    file: PathBuf,
    /// Where it comes from.
    object: String,
}

impl Remote {
    /// What an action gave elsewhere, if the cache has it: its record and the lists of files of its outputs, which
    /// are kept in the store.
    pub fn look(&self, store: &Store, key: &Key, progress: &dyn Progress) -> Result<Option<ActionResult>> {
        Ok(self.find(store, key, progress)?.map(|found| found.outcome))
    }

    fn find(&self, store: &Store, key: &Key, progress: &dyn Progress) -> Result<Option<Found>> {
        let Some((format, bytes)) = self.record(key)? else { return Ok(None) };
        let object = format.record(key);
        let Some(outcome) = record::parse::<ActionResult>(&bytes) else {
            return self.refuse(&object, &object, progress);
        };
        let mut trees = BTreeMap::new();
        for tree in outcome.outputs.values().map(|o| o.digest).filter(|digest| digest.kind == Kind::Tree) {
            let known = store.manifest(&tree).filter(|manifest| manifest.check().is_ok());
            let found = match known {
                Some(manifest) => Some((manifest, None)),
                None => self.tree(format, &tree)?.map(|(manifest, index)| (manifest, Some(index))),
            };
            let Some(found) = found else { return self.refuse(&object, &format.tree(&tree), progress) };
            trees.insert(tree, found);
        }
        if outcome.check(key, |tree| trees.get(tree).map(|(m, _)| (m.bytes(), m.files()))).is_err() {
            return self.refuse(&object, &object, progress);
        }
        for (tree, (manifest, _)) in &trees {
            store.keep_manifest(tree, manifest)?;
        }
        Ok(Some(Found { outcome, format, trees }))
    }

    /// What the cache says of a folder; `None` when it says nothing that can be believed.
    pub(super) fn tree(&self, format: Format, tree: &Digest) -> Result<Option<(Manifest, Index)>> {
        let Some(bytes) = self.client()?.read(&format.tree(tree), LIST)? else { return Ok(None) };
        Ok(match format {
            Format::V1 => Manifest::parse(&bytes, tree).ok().map(|manifest| (manifest, Index::default())),
            Format::V2 => Index::parse(&bytes, tree).ok(),
        })
    }

    /// Brings what an action gave elsewhere into the store. Needs the action's lock.
    pub fn fetch(&self, store: &Store, key: &Key, progress: &dyn Progress) -> Result<Option<ActionResult>> {
        let Some(mut found) = self.find(store, key, progress)? else { return Ok(None) };
        let record = found.format.record(key);
        let landing = store.fetched(key);
        store.fresh(&landing)?;
        let (mut wanted, mut downloads) = (Vec::new(), Vec::new());
        let all = found.outcome.outputs.values().map(|o| (o.digest, o.bytes));
        let mut seen = HashSet::new();
        let mut loose = missing(store, all.filter(|(digest, _)| digest.kind != Kind::Tree), &mut seen)?;
        for (tree, (manifest, index)) in &mut found.trees {
            let missing = missing(store, manifest.blobs(), &mut seen)?;
            if index.is_none() && !missing.is_empty() {
                *index = self.tree(found.format, tree)?.map(|(_, index)| index);
            }
            let Some(index) = index.as_ref().filter(|_| !missing.is_empty()) else {
                loose.extend(missing);
                continue;
            };
            let (packed, others): (Vec<_>, Vec<_>) =
                missing.into_iter().partition(|(digest, bytes)| index.place(digest, *bytes).is_some());
            loose.extend(others);
            let (files, stretches) = stretches(index, packed, &landing);
            wanted.extend(files);
            downloads.extend(stretches.into_iter().map(Download::Stretch));
        }
        for (digest, bytes) in loose {
            let (object, file) = (layout::blob(&digest), arrives(&landing, &digest));
            downloads.push(Download::File(Move { object: object.clone(), file: file.clone(), bytes }));
            wanted.push(Wanted { digest, file, object });
        }
        let downloaded = self.client()?.download(downloads, progress);
        if downloaded.is_err() {
            link::remove(&landing)?;
        }
        downloaded?;
        let taken = wanted.par_iter().with_min_len(64).map(|one| {
            let whole = one.file.exists() && store.ingest_blob(&one.file, &one.digest)?;
            Ok((!whole).then_some(&one.object))
        });
        let bad: Vec<&String> = taken.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        link::remove(&landing)?;
        if let Some(object) = bad.first() {
            self.lock().extend(bad.iter().map(|object| object.to_string()));
            return self.refuse(&record, object, progress);
        }
        let taken = wanted.iter().map(|one| one.digest);
        let taken: Vec<_> =
            taken.map(|digest| Hashed { digest, bytes: 0, files: 1, manifest: None }).collect();
        for output in found.outcome.outputs.values() {
            if !store.materialize(&output.digest)? {
                return self.refuse(&record, &record, progress);
            }
        }
        store.sync(&taken)?;
        results::record(store, key, &found.outcome)?;
        Ok(Some(found.outcome))
    }
}

/// Where a content arrives.
fn arrives(landing: &Path, digest: &Digest) -> PathBuf {
    landing.join(digest.to_string().replace(':', "-"))
}

/// Those of some contents that the store does not have, without those that were seen before.
fn missing(
    store: &Store,
    all: impl Iterator<Item = (Digest, u64)>,
    seen: &mut HashSet<Digest>,
) -> Result<Vec<(Digest, u64)>> {
    let mut missing = Vec::new();
    for (digest, bytes) in all {
        if seen.insert(digest) && !store.has(&digest)? {
            missing.push((digest, bytes));
        }
    }
    Ok(missing)
}

/// What is to be read of packs for some of the files in them.
fn stretches(index: &Index, files: Vec<(Digest, u64)>, landing: &Path) -> (Vec<Wanted>, Vec<Stretch>) {
    let mut wanted = Vec::with_capacity(files.len());
    let mut pieces: BTreeMap<u32, Vec<Piece>> = BTreeMap::new();
    for (digest, bytes) in files {
        let Some((pack, range)) = index.place(&digest, bytes) else { continue };
        let (file, object) = (arrives(landing, &digest), layout::pack(&index.packs[pack as usize].0));
        pieces.entry(pack).or_default().push(Piece { range, hash: digest.hash, file: file.clone() });
        wanted.push(Wanted { digest, file, object });
    }
    let mut stretches: Vec<Stretch> = Vec::new();
    for (pack, mut pieces) in pieces {
        let (name, whole) = index.packs[pack as usize];
        pieces.sort_by_key(|piece| (piece.range.start, piece.range.end));
        let first = stretches.len();
        for piece in pieces {
            match stretches.get_mut(first..).and_then(<[Stretch]>::last_mut) {
                Some(open) if piece.range.start <= open.range.end + GAP => {
                    open.range.end = open.range.end.max(piece.range.end);
                    open.pieces.push(piece);
                }
                _ => stretches.push(Stretch {
                    object: layout::pack(&name),
                    whole,
                    range: piece.range.clone(),
                    pieces: vec![piece],
                }),
            }
        }
    }
    (wanted, stretches)
}

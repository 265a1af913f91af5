//! Contents, and having them at hand again.

use crate::contents;
use crate::digest::{Digest, Kind};
use crate::error::{Error, IoContext, Result};
use crate::layout::Store;
use crate::manifest::{self, Entry, Item, Manifest};
use crate::walk::{self, Links};
use crate::{link, process, record};
use link::How;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// One output of an action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Produced {
    /// What it is.
    pub digest: Digest,
    /// Sum of the sizes of its files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
}

/// One entry of a folder whose entries are taken one by one.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name without an ending; with it where two would be alike, and of a folder.
    pub name: OsString,
    /// Its whole name.
    pub file: OsString,
    /// What it is.
    pub digest: Digest,
}

impl Store {
    /// Where a content stands for readers: the blob itself, or the view of a folder.
    pub fn place(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        match digest.kind {
            Kind::File => self.blob(&hex, ""),
            Kind::Program => self.blob(&hex, ".x"),
            Kind::Tree => self.view(&hex),
        }
    }

    /// Where the list of files of a tree is kept.
    pub fn manifest_path(&self, digest: &Digest) -> PathBuf {
        self.tree(&digest.hex())
    }

    /// The manifest of a tree, if it is there and whole. One that is lost or damaged is made again from the tree's view.
    pub fn manifest(&self, digest: &Digest) -> Option<Manifest> {
        self.listed(digest).or_else(|| {
            let found = walk::hash(&self.place(digest), &self.stats, Links::Keep).ok()?;
            let manifest = found.manifest.filter(|_| found.digest == *digest)?;
            // Where it cannot be written it is made again the next time as well.
            let _ = self.keep_manifest(digest, &manifest);
            Some(manifest)
        })
    }

    /// The manifest of a tree, where it lies in the store.
    pub fn listed(&self, digest: &Digest) -> Option<Manifest> {
        let Ok(bytes) = fs::read(self.manifest_path(digest)) else {
            return self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        };
        Manifest::decode(&bytes).filter(|_| manifest::digest_of(&bytes) == *digest)
    }

    /// Whether a content is there, whole and unchanged, and ready at its [`place`](Self::place).
    ///
    /// A view that was changed or lost is made again from its blobs. A blob that changed is put into quarantine.
    pub fn materialize(&self, digest: &Digest) -> Result<bool> {
        if digest.kind != Kind::Tree {
            return self.has(digest);
        }
        let view = self.place(digest);
        let found = walk::hash(&view, &self.stats, Links::Keep).ok().filter(|found| found.digest == *digest);
        if let Some(manifest) = found.and_then(|found| found.manifest) {
            // Where it cannot be written it is made again the next time as well.
            let _ = self.keep_manifest(digest, &manifest);
            return Ok(true);
        }
        // Outputs have no links that lead out; a list that has some came from elsewhere, and gives no folder.
        let Some(manifest) = self.manifest(digest).filter(|m| m.check().is_ok()) else { return Ok(false) };
        let whole = manifest.0.par_iter().with_min_len(256).map(|entry| match &entry.item {
            Item::File(blob, size) => Ok(self.find(blob)?.is_some_and(|meta| meta.len() == *size)),
            _ => Ok(true),
        });
        if !whole.try_reduce(|| true, |a, b| Ok(a && b))? {
            return Ok(false);
        }
        if !self.is_closed() {
            self.make_view(&view, &manifest)?;
        }
        Ok(true)
    }

    /// Whether a blob is there, whole and unchanged. One that changed is put into quarantine.
    pub fn has(&self, digest: &Digest) -> Result<bool> {
        Ok(self.find(digest)?.is_some())
    }

    /// The same, with what `stat` says of it.
    fn find(&self, digest: &Digest) -> Result<Option<Metadata>> {
        let path = self.place(digest);
        let Ok(mut meta) = fs::symlink_metadata(&path) else { return Ok(None) };
        let mut content = walk::content(&path, &meta, &self.stats);
        if matches!(content, Err(Error::Changed(_))) {
            // Another runner has just stored the same; one that changes again while it is read is no content.
            let Ok(now) = fs::symlink_metadata(&path) else { return Ok(None) };
            meta = now;
            content = walk::content(&path, &meta, &self.stats);
        }
        if meta.is_file() {
            let content = content?;
            // Before a content is called damaged it is read: the cache may be mistaken, where files are numbered anew.
            if content == *digest
                || (content.kind == digest.kind && *contents::hash(&path, &meta)?.as_bytes() == digest.hash)
            {
                return Ok(Some(meta));
            }
        }
        if !self.is_closed() {
            self.quarantine(&path)?;
        }
        Ok(None)
    }

    /// Moves something that is not what its name says out of the way, for a person to look at.
    pub fn quarantine(&self, path: &Path) -> Result<()> {
        let folder = self.damaged();
        fs::create_dir_all(&folder).at("making", &folder)?;
        let name = self.shown(path).to_string_lossy().replace('/', "-");
        let aside = folder.join(name);
        link::remove(&aside)?;
        fs::rename(path, &aside).at("putting into quarantine", path)
    }

    fn make_view(&self, view: &Path, manifest: &Manifest) -> Result<()> {
        let partial = view.with_extension(format!("{}.partial", process::thread()));
        link::remove(&partial)?;
        fs::create_dir_all(&partial).at("making", &partial)?;
        for entry in &manifest.0 {
            let path = || partial.join(&entry.path);
            match &entry.item {
                Item::Folder => fs::create_dir(path()).at("making", &path())?,
                Item::Link(target) => std::os::unix::fs::symlink(target, path()).at("linking", &path())?,
                Item::File(..) => {}
            }
        }
        manifest.0.par_iter().with_min_len(64).try_for_each(|entry| match &entry.item {
            Item::File(blob, _) => self.link_blob(blob, &partial.join(&entry.path)),
            Item::Folder | Item::Link(_) => Ok(()),
        })?;
        self.place_view(&partial, view)
    }

    /// Gives a blob a second name, and remembers the digest of both (a new link changes the ctime).
    pub(crate) fn link_blob(&self, blob: &Digest, path: &Path) -> Result<()> {
        let from = self.place(blob);
        let names = match link::link(&from, path)? {
            // Both are one file.
            How::HardLink => vec![path],
            How::Reflink | How::Copy => vec![from.as_path(), path],
        };
        for name in names {
            let meta = fs::symlink_metadata(name).at("reading", name)?;
            self.stats.put(name, &meta, blob, None);
        }
        Ok(())
    }

    pub(crate) fn place_view(&self, partial: &Path, view: &Path) -> Result<()> {
        for _ in 0..2 {
            if fs::rename(partial, view).is_ok() {
                return Ok(());
            }
            // Another runner may have made the same view; a damaged one is in the way.
            link::remove(view)?;
        }
        fs::rename(partial, view).at("placing", view)
    }

    /// The entries of a stored folder, by name.
    pub fn entries(&self, folder: &Digest) -> Result<Vec<Member>> {
        let manifest = self.manifest(folder).ok_or(Error::NoManifest(*folder))?;
        // Each is read by itself.
        self.heal(&self.place(folder), &manifest)?;
        let mut entries: BTreeMap<OsString, (Option<Digest>, Vec<Entry>)> = BTreeMap::new();
        for entry in manifest.0 {
            let mut parts = entry.path.components();
            let Some(first) = parts.next() else { continue };
            let (file, below) = entries.entry(first.as_os_str().to_os_string()).or_default();
            let rest = parts.as_path().to_path_buf();
            match (rest.as_os_str().is_empty(), entry.item) {
                (true, Item::File(digest, _)) => *file = Some(digest),
                (true, Item::Link(_)) => {
                    return Err(Error::EntryIsLink {
                        entry: entry.path.to_path_buf(),
                        folder: self.place(folder),
                    });
                }
                (true, Item::Folder) => {}
                (false, item) => below.push(Entry { path: rest.into(), item }),
            }
        }
        let names: Vec<(&OsStr, bool)> =
            entries.iter().map(|(name, (file, _))| (name.as_os_str(), file.is_some())).collect();
        let labels = labels(&names);
        let mut found = Vec::with_capacity(entries.len());
        for (name, (file, (content, below))) in labels.into_iter().zip(entries) {
            let digest = match content {
                Some(digest) => digest,
                None => {
                    let manifest = Manifest(below);
                    let path = self.place(folder).join(&file);
                    manifest.check().map_err(|why| Error::Unfit { path, why })?;
                    let digest = manifest.digest();
                    self.keep_manifest(&digest, &manifest)?;
                    digest
                }
            };
            found.push(Member { name, file, digest });
        }
        Ok(found)
    }

    /// A folder made of contents that are in the store, by name. With `optional` they need not be at hand.
    pub fn gather(&self, parts: &[(OsString, Produced)], optional: bool) -> Result<Produced> {
        let gathered = self.gathered(parts)?;
        if self.is_closed() {
            return Ok(gathered);
        }
        let digest = gathered.digest;
        let whole = self.materialize(&digest)? || self.heal_parts(parts)? && self.materialize(&digest)?;
        if !whole && !optional {
            return Err(Error::NoPart(digest));
        }
        Ok(gathered)
    }

    /// What [`gather`](Self::gather) makes, without looking whether its parts are at hand.
    pub fn gathered(&self, parts: &[(OsString, Produced)]) -> Result<Produced> {
        let mut entries = Vec::new();
        for (name, part) in parts {
            if part.digest.kind != Kind::Tree {
                entries.push(Entry { path: name.into(), item: Item::File(part.digest, part.bytes) });
                continue;
            }
            let manifest = self.manifest(&part.digest).ok_or(Error::NoManifest(part.digest))?;
            entries.push(Entry { path: name.into(), item: Item::Folder });
            entries.extend(
                manifest
                    .0
                    .into_iter()
                    .map(|e| Entry { path: Path::new(name).join(&e.path).into(), item: e.item }),
            );
        }
        entries.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
        let manifest = Manifest(entries);
        let digest = manifest.digest();
        self.keep_manifest(&digest, &manifest)?;
        Ok(Produced { digest, bytes: manifest.bytes(), files: manifest.files() })
    }

    /// Makes blobs of parts that are folders again; whether there was one.
    fn heal_parts(&self, parts: &[(OsString, Produced)]) -> Result<bool> {
        let mut healed = 0;
        for digest in parts.iter().map(|(_, part)| part.digest).filter(|digest| digest.kind == Kind::Tree) {
            if let Some(manifest) = self.manifest(&digest) {
                healed += self.heal(&self.place(&digest), &manifest)?;
            }
        }
        Ok(healed > 0)
    }

    /// Keeps a manifest, so that a later change of the folder can be told file by file.
    pub fn keep_manifest(&self, digest: &Digest, manifest: &Manifest) -> Result<()> {
        let path = self.manifest_path(digest);
        if is_kept(&path, manifest).unwrap_or(false) {
            return Ok(());
        }
        if self.is_closed() {
            let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
            unwritten.insert(*digest, manifest.clone());
            return Ok(());
        }
        record::write_by(&path, false, |file| manifest.pieces(|piece| file.write_all(piece)))
    }
}

/// Whether a file holds just this list.
fn is_kept(path: &Path, manifest: &Manifest) -> io::Result<bool> {
    let (mut file, mut there) = (File::open(path)?, Vec::new());
    manifest.pieces(|piece| {
        there.resize(piece.len(), 0);
        file.read_exact(&mut there)?;
        if there == piece { Ok(()) } else { Err(io::Error::from(ErrorKind::InvalidData)) }
    })?;
    Ok(file.read(&mut [0])? == 0)
}

/// What the entries of a folder are called where a stage runs over them: the name of a file without its ending, unless
/// two would be alike; the name of a folder. Each name comes with whether it is a file's.
pub fn labels(names: &[(&OsStr, bool)]) -> Vec<OsString> {
    let stem = |name: &OsStr| Path::new(name).file_stem().unwrap_or_default().to_os_string();
    let mut stems: HashMap<OsString, usize> = HashMap::new();
    for (name, _) in names {
        *stems.entry(stem(name)).or_default() += 1;
    }
    let label = |(name, file): &(&OsStr, bool)| {
        if *file && stems[&stem(name)] == 1 { stem(name) } else { name.to_os_string() }
    };
    names.iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), "test").unwrap();
        (dir, store)
    }

    #[test]
    fn a_tree_comes_back_after_its_view_is_lost() {
        let (dir, store) = store();
        let out = dir.path().join("out");
        fs::create_dir_all(out.join("sub/empty")).unwrap();
        for (name, text) in [("a", "1"), ("b", "1"), ("sub/c", "2")] {
            fs::write(out.join(name), text).unwrap();
        }
        let taken = store.ingest(&out).unwrap();
        store.sync(std::slice::from_ref(&taken)).unwrap();
        assert!(!out.exists() && store.materialize(&taken.digest).unwrap());
        let view = store.place(&taken.digest);
        link::remove(&view).unwrap();
        assert!(store.materialize(&taken.digest).unwrap());
        assert_eq!(fs::read_to_string(view.join("sub/c")).unwrap(), "2");
        assert!(view.join("sub/empty").is_dir());
        fs::write(view.join("more"), "x").unwrap();
        assert!(store.materialize(&taken.digest).unwrap());
        assert!(!view.join("more").exists());
    }

    #[test]
    fn a_changed_blob_is_noticed_and_put_into_quarantine() {
        let (dir, store) = store();
        let out = dir.path().join("out");
        fs::write(&out, "content").unwrap();
        let digest = store.ingest(&out).unwrap().digest;
        let blob = store.place(&digest);
        link::remove(&blob).unwrap();
        fs::write(&blob, "c0ntent").unwrap();
        assert!(!store.materialize(&digest).unwrap());
        assert!(!blob.exists());
        assert_eq!(store.list(crate::Area::Damaged).len(), 1);
    }
}

//! Contents: taking in what a stage wrote, and having it at hand again.

use crate::digest::{Digest, Kind};
use crate::error::{Error, IoContext, Result};
use crate::layout::Store;
use crate::manifest::{self, Entry, Item, Manifest};
use crate::walk::{self, Hashed, Links};
use crate::{link, record};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

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

/// Up to this many files are synced one by one; more are synced with the whole file system.
const FEW: u64 = 64;

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

    /// The manifest of a tree, if it is there and whole.
    pub fn manifest(&self, digest: &Digest) -> Option<Manifest> {
        let bytes = fs::read(self.manifest_path(digest)).ok()?;
        if manifest::digest_of(&bytes) != *digest {
            return None;
        }
        Manifest::decode(&bytes)
    }

    /// Whether a content is there, whole and unchanged, and ready at its [`place`](Self::place).
    ///
    /// A view that was changed or lost is made again from its blobs. A blob that changed is put into quarantine.
    pub fn materialize(&self, digest: &Digest) -> Result<bool> {
        if digest.kind != Kind::Tree {
            return self.has(digest);
        }
        let view = self.place(digest);
        if walk::hash(&view, &self.stats, Links::Keep).is_ok_and(|found| found.digest == *digest) {
            return Ok(true);
        }
        // Outputs have no links that lead out; a list that has some came from elsewhere, and gives no folder.
        let Some(manifest) = self.manifest(digest).filter(|m| m.check().is_ok()) else { return Ok(false) };
        let whole = manifest.0.par_iter().with_min_len(256).map(|entry| match &entry.item {
            Item::File(blob, size) => {
                let sized = || fs::metadata(self.place(blob)).is_ok_and(|meta| meta.len() == *size);
                Ok(self.has(blob)? && sized())
            }
            _ => Ok(true),
        });
        if !whole.try_reduce(|| true, |a, b| Ok(a && b))? {
            return Ok(false);
        }
        self.make_view(&view, &manifest)?;
        Ok(true)
    }

    /// Takes in a file that came from elsewhere, if its content is what the digest says.
    pub fn ingest_blob(&self, path: &Path, digest: &Digest) -> Result<bool> {
        let whole = self.is_blob(path, digest)?;
        if whole {
            self.ingest_file(path, digest)?;
        }
        Ok(whole)
    }

    /// Whether the content of a file from elsewhere is what the digest says.
    pub fn is_blob(&self, path: &Path, digest: &Digest) -> Result<bool> {
        let length = fs::metadata(path).at("reading", path)?.len();
        Ok(*walk::read(path, length).at("hashing", path)?.as_bytes() == digest.hash)
    }

    /// Whether a blob is there, whole and unchanged. One that changed is put into quarantine.
    pub fn has(&self, digest: &Digest) -> Result<bool> {
        let path = self.place(digest);
        let Ok(meta) = fs::symlink_metadata(&path) else { return Ok(false) };
        if meta.is_file() && walk::content(&path, &meta, &self.stats)? == *digest {
            return Ok(true);
        }
        self.quarantine(&path)?;
        Ok(false)
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
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let partial = view.with_extension(format!("{thread}.partial"));
        link::remove(&partial)?;
        fs::create_dir_all(&partial).at("making", &partial)?;
        for entry in &manifest.0 {
            let path = partial.join(&entry.path);
            match &entry.item {
                Item::Folder => fs::create_dir(&path).at("making", &path)?,
                Item::Link(target) => std::os::unix::fs::symlink(target, &path).at("linking", &path)?,
                Item::File(blob, _) => self.link_blob(blob, &path)?,
            }
        }
        self.place_view(&partial, view)
    }

    /// Gives a blob a second name, and remembers the digest of both (a new link changes the ctime).
    fn link_blob(&self, blob: &Digest, path: &Path) -> Result<()> {
        let from = self.place(blob);
        link::link(&from, path)?;
        for name in [from.as_path(), path] {
            let meta = fs::symlink_metadata(name).at("reading", name)?;
            self.stats.put(&meta, blob, None);
        }
        Ok(())
    }

    fn place_view(&self, partial: &Path, view: &Path) -> Result<()> {
        for _ in 0..2 {
            if fs::rename(partial, view).is_ok() {
                return Ok(());
            }
            // Another runner may have made the same view; a damaged one is in the way.
            link::remove(view)?;
        }
        fs::rename(partial, view).at("placing", view)
    }

    /// Takes in what a stage wrote at `path`. It is moved away from there.
    pub fn ingest(&self, path: &Path) -> Result<Hashed> {
        let meta = fs::symlink_metadata(path).at("reading", path)?;
        if meta.is_symlink() {
            return Err(Error::OutputIsLink(path.into()));
        }
        let hashed = walk::hash(path, &self.stats, Links::Refuse)?;
        let Some(manifest) = &hashed.manifest else {
            self.ingest_file(path, &hashed.digest)?;
            return Ok(hashed);
        };
        // A link to nothing can lead out as well, and would when something is there.
        manifest.check().map_err(|why| Error::Unfit { path: path.into(), why })?;
        let files = manifest.0.par_iter().with_min_len(64).filter_map(|e| match &e.item {
            Item::File(digest, _) => Some((path.join(&e.path), digest)),
            _ => None,
        });
        files.try_for_each(|(file, digest)| {
            self.ingest_file(&file, digest)?;
            self.link_blob(digest, &file)
        })?;
        record::write_bytes(&self.manifest_path(&hashed.digest), &manifest.encode(), false)?;
        let view = self.place(&hashed.digest);
        if let Some(parent) = view.parent() {
            fs::create_dir_all(parent).at("making", parent)?;
        }
        self.place_view(path, &view)?;
        Ok(hashed)
    }

    /// Moves a file into the blobs, unless its content is there already.
    pub fn ingest_file(&self, path: &Path, digest: &Digest) -> Result<()> {
        let blob = self.place(digest);
        if self.has(digest)? {
            return link::remove(path);
        }
        if let Some(parent) = blob.parent() {
            fs::create_dir_all(parent).at("making", parent)?;
        }
        link::protect(path, digest.kind == Kind::Program)?;
        fs::rename(path, &blob).at("storing", path)?;
        let meta = fs::symlink_metadata(&blob).at("reading", &blob)?;
        self.stats.put(&meta, digest, None);
        Ok(())
    }

    /// Stores a file that the runner itself made.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::file(blake3::hash(bytes), false);
        if !self.has(&digest)? {
            let path = self.place(&digest);
            record::write_bytes(&path, bytes, true)?;
            link::protect(&path, false)?;
            let meta = fs::symlink_metadata(&path).at("reading", &path)?;
            self.stats.put(&meta, &digest, None);
        }
        Ok(digest)
    }

    /// The entries of a stored folder, by name: their name without an ending (with it where two would be alike), their
    /// whole name, their content.
    pub fn entries(&self, folder: &Digest) -> Result<Vec<(String, String, Digest)>> {
        let manifest = self.manifest(folder).ok_or(Error::NoManifest(*folder))?;
        let mut entries: BTreeMap<String, (Option<Digest>, Vec<Entry>)> = BTreeMap::new();
        for entry in manifest.0 {
            let mut parts = entry.path.components();
            let Some(first) = parts.next() else { continue };
            let (_, below) = entries.entry(first.as_os_str().to_string_lossy().into_owned()).or_default();
            let rest = parts.as_path().to_path_buf();
            match (rest.as_os_str().is_empty(), entry.item) {
                (true, Item::File(digest, _)) => {
                    entries
                        .insert(first.as_os_str().to_string_lossy().into_owned(), (Some(digest), Vec::new()));
                }
                (true, Item::Link(_)) => {
                    return Err(Error::EntryIsLink { entry: entry.path, folder: self.place(folder) });
                }
                (true, Item::Folder) => {}
                (false, item) => below.push(Entry { path: rest, item }),
            }
        }
        let names: Vec<(&str, bool)> =
            entries.iter().map(|(name, (file, _))| (name.as_str(), file.is_some())).collect();
        let labels = labels(&names);
        let mut found = Vec::with_capacity(entries.len());
        for (label, (name, (file, below))) in labels.into_iter().zip(entries) {
            let digest = match file {
                Some(digest) => digest,
                None => {
                    let manifest = Manifest(below);
                    let digest = manifest.digest();
                    self.keep_manifest(&digest, &manifest)?;
                    digest
                }
            };
            found.push((label, name, digest));
        }
        Ok(found)
    }

    /// A folder made of contents that are in the store, by name. With `optional` they need not be at hand.
    pub fn gather(&self, parts: &[(String, Produced)], optional: bool) -> Result<Produced> {
        let mut entries = Vec::new();
        for (name, part) in parts {
            if part.digest.kind != Kind::Tree {
                entries.push(Entry { path: name.into(), item: Item::File(part.digest, part.bytes) });
                continue;
            }
            let manifest = self.manifest(&part.digest).ok_or(Error::NoManifest(part.digest))?;
            entries.push(Entry { path: name.into(), item: Item::Folder });
            entries.extend(
                manifest.0.into_iter().map(|e| Entry { path: Path::new(name).join(e.path), item: e.item }),
            );
        }
        entries.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
        let manifest = Manifest(entries);
        let digest = manifest.digest();
        self.keep_manifest(&digest, &manifest)?;
        if !self.materialize(&digest)? && !optional {
            return Err(Error::NoPart(digest));
        }
        Ok(Produced { digest, bytes: manifest.bytes(), files: manifest.files() })
    }

    /// Takes in a copy (or a link, where blocks can be shared) of a file or folder that belongs to somebody else.
    pub fn import_copy(&self, path: &Path) -> Result<Produced> {
        let hashed = walk::hash(path, &self.stats, Links::Follow)?;
        if !self.materialize(&hashed.digest)? {
            let copy = self.copied();
            link::remove(&copy)?;
            link::copy_all(path, &copy)?;
            let taken = self.ingest(&copy)?;
            if taken.digest != hashed.digest {
                return Err(Error::Changed(path.into()));
            }
            self.sync(std::slice::from_ref(&taken))?;
        }
        Ok(Produced { digest: hashed.digest, bytes: hashed.bytes, files: hashed.files })
    }

    /// Keeps a manifest, so that a later change of the folder can be told file by file.
    pub fn keep_manifest(&self, digest: &Digest, manifest: &Manifest) -> Result<()> {
        let (path, encoded) = (self.manifest_path(digest), manifest.encode());
        if fs::metadata(&path).is_ok_and(|meta| meta.len() == encoded.len() as u64) {
            return Ok(());
        }
        record::write_bytes(&path, &encoded, false)
    }

    /// Waits until contents have reached the disk.
    pub fn sync(&self, contents: &[Hashed]) -> Result<()> {
        if contents.iter().map(|c| c.files).sum::<u64>() > FEW {
            let store = File::open(&self.path).at("opening", &self.path)?;
            return rustix::fs::syncfs(&store).at("syncing", &self.path);
        }
        let flush = |path: &Path| File::open(path).and_then(|f| f.sync_all()).at("syncing", path);
        for content in contents {
            match &content.manifest {
                None => flush(&self.place(&content.digest))?,
                Some(manifest) => {
                    flush(&self.manifest_path(&content.digest))?;
                    for entry in &manifest.0 {
                        if let Item::File(blob, _) = &entry.item {
                            flush(&self.place(blob))?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// What the entries of a folder are called where a stage runs over them: the name of a file without its ending, unless
/// two would be alike; the name of a folder. Each name comes with whether it is a file's.
pub fn labels(names: &[(&str, bool)]) -> Vec<String> {
    let stem = |name: &str| Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut stems: HashMap<String, usize> = HashMap::new();
    for (name, _) in names {
        *stems.entry(stem(name)).or_default() += 1;
    }
    let label = |(name, file): &(&str, bool)| {
        if *file && stems[&stem(name)] == 1 { stem(name) } else { name.to_string() }
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

//! Taking contents in: what a stage wrote, what came from elsewhere, and copies of what is somebody else's.

use crate::contents;
use crate::digest::{Digest, Kind};
use crate::error::{Error, IoContext, Result};
use crate::layout::{Area, Store};
use crate::manifest::{Item, Manifest};
use crate::objects::Produced;
use crate::walk::{self, Hashed, Links};
use crate::{link, record};
use rayon::prelude::*;
use std::collections::HashMap;
use std::fs::{self, File, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Up to this many files are synced one by one; more are synced with the whole file system.
const FEW: u64 = 64;
/// What a mode may have that no folder is above of.
const EVERYTHING: u32 = 0o777;

/// A file on its way into the store.
struct Loose<'a> {
    path: PathBuf,
    digest: &'a Digest,
    meta: Metadata,
    /// What the folders above it let through.
    most: u32,
}

/// Which file it is, whatever its names.
type Inode = (u64, u64);

fn inode(meta: &Metadata) -> Inode {
    (meta.dev(), meta.ino())
}

impl Store {
    /// Hashes what a stage wrote at `path`, and makes it fit for the store.
    ///
    /// # Errors
    /// When it cannot be: it is a link, or has one that leads out, or something that is neither file nor folder.
    pub fn examine(&self, path: &Path) -> Result<Hashed> {
        let meta = fs::symlink_metadata(path).at("reading", path)?;
        if meta.is_symlink() {
            return Err(Error::OutputIsLink(path.into()));
        }
        let hashed = walk::hash(path, &self.stats, Links::Refuse)?;
        // A link to nothing can lead out as well, and would when something is there.
        let checked = hashed.manifest.as_ref().map_or(Ok(()), Manifest::check);
        checked.map_err(|why| Error::Unfit { path: path.into(), why })?;
        Ok(hashed)
    }

    /// Takes in what a stage wrote at `path`. It is moved away from there.
    pub fn ingest(&self, path: &Path) -> Result<Hashed> {
        let hashed = self.examine(path)?;
        self.keep(path, &hashed)?;
        Ok(hashed)
    }

    /// Moves something that was [examined](Self::examine) into the store.
    pub fn keep(&self, path: &Path, hashed: &Hashed) -> Result<()> {
        let Some(manifest) = &hashed.manifest else {
            let meta = fs::symlink_metadata(path).at("reading", path)?;
            let file = Loose { path: path.into(), digest: &hashed.digest, meta, most: EVERYTHING };
            let names = self.names(path, std::slice::from_ref(&file));
            return self.keep_file(&file, &names);
        };
        let files = loose(path, manifest)?;
        let names = self.names(path, &files);
        files.par_iter().with_min_len(64).try_for_each(|file| {
            self.keep_file(file, &names)?;
            self.link_blob(file.digest, &file.path)
        })?;
        self.keep_manifest(&hashed.digest, manifest)?;
        let view = self.place(&hashed.digest);
        if let Some(parent) = view.parent() {
            fs::create_dir_all(parent).at("making", parent)?;
        }
        self.place_view(path, &view)
    }

    /// How many names of our own the files have that have several: in the output at `path`, and in the folders of
    /// attempts, where a watch gives what a stage publishes a second name.
    fn names(&self, path: &Path, files: &[Loose]) -> HashMap<Inode, u64> {
        let mut names = HashMap::new();
        for file in files.iter().filter(|file| file.meta.nlink() > 1) {
            *names.entry(inode(&file.meta)).or_default() += 1;
        }
        if files.iter().all(|file| file.meta.nlink() <= names.get(&inode(&file.meta)).copied().unwrap_or(1)) {
            return names;
        }
        let [attempts, state] = [Area::Attempts, Area::State].map(|area| self.folder(area));
        if path.starts_with(&attempts) {
            names.values_mut().for_each(|count| *count = 0);
        }
        count(&attempts, &mut names);
        count(&state, &mut names);
        names
    }

    /// Moves a file into the blobs, unless its content is there already.
    fn keep_file(&self, file: &Loose, names: &HashMap<Inode, u64>) -> Result<()> {
        let Loose { path, digest, meta, most } = file;
        let blob = self.place(digest);
        if self.has(digest)? {
            return link::remove(path);
        }
        if let Some(parent) = blob.parent() {
            fs::create_dir_all(parent).at("making", parent)?;
        }
        let mode = link::kept_mode(meta.mode(), *most, digest.kind == Kind::Program);
        // A file that has other names as well is somebody else's; its mode and its content stay theirs. So does one that
        // belongs to another user, whose mode cannot be changed.
        let ours = meta.nlink() <= names.get(&inode(meta)).copied().unwrap_or(1);
        if ours && fs::set_permissions(path, Permissions::from_mode(mode)).is_ok() {
            fs::rename(path, &blob).at("storing", path)?;
        } else {
            let partial = link::partial(&blob);
            link::remove(&partial)?;
            link::copy(path, &partial, Some(mode)).at("copying", path)?;
            fs::rename(&partial, &blob).at("storing", path)?;
            link::remove(path)?;
        }
        let meta = fs::symlink_metadata(&blob).at("reading", &blob)?;
        self.stats.put(&blob, &meta, digest, None);
        Ok(())
    }

    /// Takes in a file that the runner itself wrote and knows the digest of.
    pub fn ingest_file(&self, path: &Path, digest: &Digest) -> Result<()> {
        let meta = fs::symlink_metadata(path).at("reading", path)?;
        self.keep_file(&Loose { path: path.into(), digest, meta, most: EVERYTHING }, &HashMap::new())
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
        let meta = fs::metadata(path).at("reading", path)?;
        Ok(*contents::hash(path, &meta)?.as_bytes() == digest.hash)
    }

    /// Stores a file that the runner itself made.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::file(blake3::hash(bytes), false);
        if !self.is_closed() && !self.has(&digest)? {
            let path = self.place(&digest);
            record::write_bytes(&path, bytes, true)?;
            let meta = fs::symlink_metadata(&path).at("reading", &path)?;
            let mode = link::kept_mode(meta.mode(), EVERYTHING, false);
            fs::set_permissions(&path, Permissions::from_mode(mode)).at("protecting", &path)?;
            let meta = fs::symlink_metadata(&path).at("reading", &path)?;
            self.stats.put(&path, &meta, &digest, None);
        }
        Ok(digest)
    }

    /// Takes in a copy (or a link, where blocks can be shared) of a file or folder that belongs to somebody else.
    pub fn import_copy(&self, path: &Path) -> Result<Produced> {
        let hashed = walk::hash(path, &self.stats, Links::Follow(&crate::ignore::Ignore::nothing()))?;
        if let Some(manifest) = &hashed.manifest {
            manifest.check().map_err(|why| Error::Unfit { path: path.into(), why })?;
        }
        if let Some(manifest) = hashed.manifest.as_ref().filter(|_| self.is_closed()) {
            self.keep_manifest(&hashed.digest, manifest)?;
        } else if !self.is_closed() && !self.materialize(&hashed.digest)? {
            let copy = self.copied();
            link::remove(&copy)?;
            let copied = duplicate(path, &copy, hashed.manifest.as_ref())
                .and_then(|()| walk::hash(&copy, &self.stats, Links::Keep))
                .and_then(|taken| match taken.digest == hashed.digest {
                    true => self.keep(&copy, &taken).map(|()| taken),
                    false => Err(Error::Changed(path.into())),
                });
            if copied.is_err() {
                link::remove(&copy)?;
            }
            self.sync(&[copied?])?;
        }
        Ok(Produced { digest: hashed.digest, bytes: hashed.bytes, files: hashed.files })
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

/// The files of a folder, with what the folders above each let through.
fn loose<'a>(root: &Path, manifest: &'a Manifest) -> Result<Vec<Loose<'a>>> {
    let through = |path: &Path| Ok(link::let_through(fs::symlink_metadata(path).at("reading", path)?.mode()));
    // What lies in a folder stands behind it.
    let mut most: HashMap<&Path, u32> = HashMap::from([(Path::new(""), through(root)?)]);
    let mut files = Vec::with_capacity(manifest.0.len());
    for entry in &manifest.0 {
        let above = entry.path.parent().and_then(|parent| most.get(parent)).copied().unwrap_or(EVERYTHING);
        let path = root.join(&entry.path);
        match &entry.item {
            Item::Folder => drop(most.insert(&entry.path, above & through(&path)?)),
            Item::File(digest, _) => {
                let meta = fs::symlink_metadata(&path).at("reading", &path)?;
                files.push(Loose { path, digest, meta, most: above });
            }
            Item::Link(_) => {}
        }
    }
    Ok(files)
}

/// Counts the names below a folder of files that are looked for. What is just being taken away counts or not.
fn count(folder: &Path, names: &mut HashMap<Inode, u64>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => count(&entry.path(), names),
            Ok(meta) if meta.nlink() > 1 => {
                names.entry(inode(&meta)).and_modify(|count| *count += 1);
            }
            _ => {}
        }
    }
}

/// Makes a copy of a file, or of the folder that a manifest lists, which others can read no more than the original.
fn duplicate(from: &Path, to: &Path, manifest: Option<&Manifest>) -> Result<()> {
    let folder = |from: &Path, to: &Path| {
        fs::create_dir_all(to).at("making", to)?;
        let mode = fs::metadata(from).at("reading", from)?.mode() & 0o777 | 0o700;
        fs::set_permissions(to, Permissions::from_mode(mode)).at("making", to)
    };
    let Some(manifest) = manifest else {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).at("making", parent)?;
        }
        return link::copy(from, to, None).at("copying", from);
    };
    folder(from, to)?;
    for entry in &manifest.0 {
        let (source, target) = (from.join(&entry.path), to.join(&entry.path));
        match &entry.item {
            Item::Folder => folder(&source, &target)?,
            Item::File(..) => link::copy(&source, &target, None).at("copying", &source)?,
            Item::Link(leads) => std::os::unix::fs::symlink(leads, &target).at("linking", &target)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

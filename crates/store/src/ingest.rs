//! Taking contents in: what a stage wrote, what came from elsewhere, and copies of what is somebody else's.

use crate::contents;
use crate::digest::{Digest, Kind};
use crate::error::{Error, IoContext, Result};
use crate::layout::{Area, Store};
use crate::listing::below;
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
    path: &'a Path,
    digest: &'a Digest,
    mode: u32,
    /// What the folders above it let through.
    most: u32,
    /// It has names that are somebody else's.
    theirs: bool,
}

/// A file that has several names: which one of those that are looked at, and how many names.
struct Named {
    place: usize,
    inode: Inode,
    links: u64,
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
            let named = Named::of(0, &meta);
            let theirs = !self.theirs(path, named.as_slice()).is_empty();
            let file = Loose { path, digest: &hashed.digest, mode: meta.mode(), most: EVERYTHING, theirs };
            return self.keep_file(path, &file);
        };
        let (mut files, named) = loose(path, manifest)?;
        self.theirs(path, &named).into_iter().for_each(|place| files[place].theirs = true);
        let kept = files.par_iter().with_min_len(64);
        kept.try_for_each_init(PathBuf::new, |full, file| {
            self.keep_named(below(full, path, file.path), file)
        })?;
        self.keep_manifest(&hashed.digest, manifest)?;
        let view = self.place(&hashed.digest);
        if let Some(parent) = view.parent() {
            fs::create_dir_all(parent).at("making", parent)?;
        }
        self.place_view(path, &view)
    }

    /// Which of the files that have several names have some that are not our own. Those are in the output at `path`, and in
    /// the folders of attempts, where a watch gives what a stage publishes a second name.
    fn theirs(&self, path: &Path, named: &[Named]) -> Vec<usize> {
        let mut names: HashMap<Inode, u64> = HashMap::new();
        for file in named {
            *names.entry(file.inode).or_default() += 1;
        }
        let others = |names: &HashMap<Inode, u64>| -> Vec<usize> {
            let ours = |file: &&Named| file.links <= names.get(&file.inode).copied().unwrap_or(1);
            named.iter().filter(|file| !ours(file)).map(|file| file.place).collect()
        };
        if others(&names).is_empty() {
            return Vec::new();
        }
        let [attempts, state] = [Area::Attempts, Area::State].map(|area| self.folder(area));
        if path.starts_with(&attempts) {
            names.values_mut().for_each(|count| *count = 0);
        }
        count(&attempts, &mut names);
        count(&state, &mut names);
        others(&names)
    }

    /// Makes a blob of a file of a folder, and leaves a second name of it where it was.
    fn keep_named(&self, path: &Path, file: &Loose) -> Result<()> {
        // One call instead of a move and a name for it: what has just been written becomes the blob, where it lies.
        if link::by_names() && !file.theirs && !self.has(file.digest)? {
            let blob = self.place(file.digest);
            let linked = fs::set_permissions(path, file.kept_mode()).is_ok()
                && link::in_folder(&blob, || fs::hard_link(path, &blob)).is_ok();
            if linked {
                return self.remember(&blob, file.digest);
            }
        }
        self.keep_file(path, file)?;
        self.link_blob(file.digest, path)
    }

    /// Moves a file into the blobs, unless its content is there already.
    fn keep_file(&self, path: &Path, file: &Loose) -> Result<()> {
        let blob = self.place(file.digest);
        if self.has(file.digest)? {
            return link::remove(path);
        }
        let mode = file.kept_mode();
        // A file that has other names as well is somebody else's; its mode and its content stay theirs. So does one that
        // belongs to another user, whose mode cannot be changed.
        if !file.theirs && fs::set_permissions(path, mode.clone()).is_ok() {
            link::in_folder(&blob, || fs::rename(path, &blob)).at("storing", path)?;
        } else {
            let partial = link::partial(&blob);
            link::remove(&partial)?;
            link::in_folder(&partial, || link::copy(path, &partial, Some(mode.mode())))
                .at("copying", path)?;
            fs::rename(&partial, &blob).at("storing", path)?;
            link::remove(path)?;
        }
        self.remember(&blob, file.digest)
    }

    /// Notes the digest of a blob that was just made.
    fn remember(&self, blob: &Path, digest: &Digest) -> Result<()> {
        let meta = fs::symlink_metadata(blob).at("reading", blob)?;
        self.stats.put(blob, &meta, digest, None);
        Ok(())
    }

    /// Takes in a file that the runner itself wrote and knows the digest of.
    pub fn ingest_file(&self, path: &Path, digest: &Digest) -> Result<()> {
        let meta = fs::symlink_metadata(path).at("reading", path)?;
        let (mode, theirs) = (meta.mode(), meta.nlink() > 1);
        self.keep_file(path, &Loose { path, digest, mode, most: EVERYTHING, theirs })
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
            self.remember(&path, &digest)?;
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

impl Loose<'_> {
    /// The mode that it has in the store.
    fn kept_mode(&self) -> Permissions {
        let program = self.digest.kind == Kind::Program;
        Permissions::from_mode(link::kept_mode(self.mode, self.most, program))
    }
}

impl Named {
    fn of(place: usize, meta: &Metadata) -> Option<Self> {
        (meta.nlink() > 1).then(|| Self { place, inode: inode(meta), links: meta.nlink() })
    }
}

/// The files of a folder, with what the folders above each let through, and those that have several names.
fn loose<'a>(root: &Path, manifest: &'a Manifest) -> Result<(Vec<Loose<'a>>, Vec<Named>)> {
    let through = |path: &Path| Ok(link::let_through(fs::symlink_metadata(path).at("reading", path)?.mode()));
    // What lies in a folder stands behind it.
    let mut folders: HashMap<&Path, u32> = HashMap::from([(Path::new(""), through(root)?)]);
    let above = |folders: &HashMap<&Path, u32>, path: &Path| {
        path.parent().and_then(|parent| folders.get(parent)).copied().unwrap_or(EVERYTHING)
    };
    let mut files = Vec::with_capacity(manifest.0.len());
    for entry in &manifest.0 {
        let (path, most) = (entry.path.as_path(), above(&folders, &entry.path));
        match &entry.item {
            Item::Folder => drop(folders.insert(path, most & through(&root.join(path))?)),
            Item::File(digest, _) => files.push(Loose { path, digest, mode: 0, most, theirs: false }),
            Item::Link(_) => {}
        }
    }
    let looked = files.par_iter_mut().enumerate().with_min_len(256);
    let named = looked.map_init(PathBuf::new, |full, (place, file)| {
        let full = below(full, root, file.path);
        let meta = fs::symlink_metadata(full).at("reading", full)?;
        file.mode = meta.mode();
        Ok(Named::of(place, &meta))
    });
    let named = named.filter_map(Result::transpose).collect::<Result<_>>()?;
    Ok((files, named))
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

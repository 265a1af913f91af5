//! Hashing files and folders, reading only what the stat cache does not know.

use crate::contents;
use crate::digest::{Digest, Kind};
use crate::error::{Error, IoContext, Result};
use crate::manifest::{Entry, Item, Manifest};
use crate::statcache::{self, StatCache};
use rayon::prelude::*;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file or folder with its digest.
#[derive(Clone, Debug)]
pub struct Hashed {
    /// Its name.
    pub digest: Digest,
    /// Sum of the sizes of its files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// For a folder.
    pub manifest: Option<Manifest>,
}

/// What is done with links inside a folder.
#[derive(Clone, Copy, PartialEq)]
pub enum Links {
    /// A link that leads out of the folder counts as what it leads to (inputs).
    Follow,
    /// A link is a link (the store's own folders, which have been checked).
    Keep,
    /// A link that leads out of the folder is refused (outputs).
    Refuse,
}

/// Hashes the file or folder at `path`; a link at `path` itself is followed.
pub fn hash(path: &Path, cache: &StatCache, links: Links) -> Result<Hashed> {
    let meta = fs::metadata(path).at("reading", path)?;
    if meta.is_dir() {
        let mut found = Vec::new();
        list(path, Path::new(""), links, &mut found, 0)?;
        found.sort_by(|a, b| a.0.as_os_str().cmp(b.0.as_os_str()));
        let entries = found
            .into_par_iter()
            .with_min_len(256)
            .map(|(relative, item)| {
                let item = match item {
                    Found::Folder => Item::Folder,
                    Found::Link(target) => Item::Link(target),
                    Found::File(meta) => {
                        Item::File(content(&path.join(&relative), &meta, cache)?, meta.len())
                    }
                };
                Ok(Entry { path: relative, item })
            })
            .collect::<Result<Vec<_>>>()?;
        let manifest = Manifest(entries);
        return Ok(Hashed {
            digest: manifest.digest(),
            bytes: manifest.bytes(),
            files: manifest.files(),
            manifest: Some(manifest),
        });
    }
    if !meta.is_file() {
        return Err(Error::Special(path.into()));
    }
    Ok(Hashed { digest: content(path, &meta, cache)?, bytes: meta.len(), files: 1, manifest: None })
}

/// The digest of one file.
pub fn content(path: &Path, meta: &Metadata, cache: &StatCache) -> Result<Digest> {
    if let Some(digest) = cache.get(path, meta) {
        return Ok(digest);
    }
    let read_at = statcache::now();
    let hash = contents::hash(path, meta)?;
    let digest = Digest::file(hash, statcache::kind(meta) == Kind::Program);
    // `meta` was taken before reading: a file that changed meanwhile will not match it.
    cache.put(path, meta, &digest, Some(read_at));
    Ok(digest)
}

/// What `stat` says of a file that changes with its content, and what else can have changed its ctime.
///
/// Neither device nor inode: some network and user-space file systems give others after a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stamp {
    /// A hash of path, size and mtime.
    content: u64,
    ctime: i64,
    /// A hash of the number of links, mode and owner.
    about: u64,
}

impl Stamp {
    fn new(path: &Path, meta: &Metadata) -> Self {
        let hash = |numbers: &[u64], text: &[u8]| {
            let mut hasher = blake3::Hasher::new();
            for number in numbers {
                hasher.update(&number.to_le_bytes());
            }
            let hash = hasher.update(text).finalize();
            hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let (mtime, ctime) = (statcache::mtime(meta), statcache::ctime(meta));
        let content = hash(&[meta.len(), mtime as u64], path.as_os_str().as_bytes());
        let about = [meta.nlink(), u64::from(meta.mode()), u64::from(meta.uid()), u64::from(meta.gid())];
        Self { content, ctime, about: hash(&about, b"") }
    }

    /// Whether a file was left alone between this and `now`. A ctime that moved alone is the mark of a write whose mtime
    /// was put back, unless a new link, mode or owner explains it.
    pub fn same(&self, now: &Self) -> bool {
        self.content == now.content && (self.ctime == now.ctime || self.about != now.about)
    }

    /// One digest for the stamps of many files.
    pub fn sum(stamps: &[(PathBuf, Self)]) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for (_, stamp) in stamps {
            hasher.update(&stamp.content.to_le_bytes()).update(&stamp.ctime.to_le_bytes());
        }
        Digest::file(hasher.finalize(), false)
    }
}

/// The stamps of a file, or of every file in a folder, by path below it.
pub fn stamps(path: &Path, links: Links) -> Result<Vec<(PathBuf, Stamp)>> {
    let meta = fs::metadata(path).at("reading", path)?;
    if !meta.is_dir() {
        return Ok(vec![(PathBuf::new(), Stamp::new(Path::new(""), &meta))]);
    }
    let mut found = Vec::new();
    list(path, Path::new(""), links, &mut found, 0)?;
    found.sort_by(|a, b| a.0.as_os_str().cmp(b.0.as_os_str()));
    let files = found.into_iter().filter_map(|(path, found)| match found {
        Found::File(meta) => Some((path.clone(), Stamp::new(&path, &meta))),
        Found::Folder | Found::Link(_) => None,
    });
    Ok(files.collect())
}

enum Found {
    Folder,
    File(Metadata),
    Link(PathBuf),
}

fn list(
    root: &Path,
    relative: &Path,
    links: Links,
    found: &mut Vec<(PathBuf, Found)>,
    depth: usize,
) -> Result<()> {
    let folder = root.join(relative);
    if depth > 128 {
        return Err(Error::Depth(root.into()));
    }
    for entry in fs::read_dir(&folder).at("reading", &folder)? {
        let entry = entry.at("reading", &folder)?;
        let relative = relative.join(entry.file_name());
        let path = entry.path();
        let mut meta = entry.metadata().at("reading", &path)?;
        if meta.is_symlink() {
            let target = fs::read_link(&path).at("reading", &path)?;
            match links {
                Links::Follow if leads_out(root, &path) => {
                    meta = fs::metadata(&path).at("following", &path)?
                }
                Links::Refuse if leads_out(root, &path) => {
                    return Err(Error::LeadsOut { path, target });
                }
                _ => {
                    found.push((relative, Found::Link(target)));
                    continue;
                }
            }
        }
        if meta.is_dir() {
            found.push((relative.clone(), Found::Folder));
            list(root, &relative, links, found, depth + 1)?;
        } else if meta.is_file() {
            found.push((relative, Found::File(meta)));
        } else {
            return Err(Error::Special(path));
        }
    }
    Ok(())
}

/// Whether a link leads to something that exists outside of `root`. A link to nothing stays a link.
pub fn leads_out(root: &Path, link: &Path) -> bool {
    match (link.canonicalize(), root.canonicalize()) {
        (Ok(target), Ok(root)) => !target.starts_with(root),
        _ => fs::read_link(link).is_ok_and(|target| target.is_absolute()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn trees_that_differ_have_different_digests() {
        let dir = tempfile::tempdir().unwrap();
        let cache = StatCache::open(dir.path().join("cache"));
        let mut seen = Vec::new();
        let mut case = |n: usize, make: &dyn Fn(&Path)| {
            let path = dir.path().join(n.to_string());
            fs::create_dir(&path).unwrap();
            make(&path);
            seen.push(hash(&path, &cache, Links::Keep).unwrap().digest);
        };
        case(0, &|_| {});
        case(1, &|p| fs::create_dir(p.join("a")).unwrap());
        case(2, &|p| fs::write(p.join("a"), "").unwrap());
        case(3, &|p| fs::write(p.join("b"), "").unwrap());
        case(4, &|p| fs::write(p.join("a"), "x").unwrap());
        case(5, &|p| {
            fs::write(p.join("a"), "x").unwrap();
            fs::set_permissions(p.join("a"), PermissionsExt::from_mode(0o755)).unwrap();
        });
        case(6, &|p| symlink("x", p.join("a")).unwrap());
        case(7, &|p| symlink("y", p.join("a")).unwrap());
        case(8, &|p| {
            fs::create_dir(p.join("a")).unwrap();
            fs::write(p.join("a/a"), "").unwrap();
        });
        let distinct: std::collections::HashSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
    }

    #[test]
    fn a_manifest_and_a_file_with_its_bytes_differ() {
        let dir = tempfile::tempdir().unwrap();
        let cache = StatCache::open(dir.path().join("cache"));
        let tree = hash(dir.path(), &cache, Links::Keep).unwrap();
        let file = dir.path().join("m");
        fs::write(&file, tree.manifest.unwrap().encode()).unwrap();
        assert_ne!(hash(&file, &cache, Links::Keep).unwrap().digest.hash, tree.digest.hash);
    }

    #[test]
    fn links_that_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let cache = StatCache::open(dir.path().join("cache"));
        fs::write(dir.path().join("outside"), "x").unwrap();
        let folder = dir.path().join("f");
        fs::create_dir(&folder).unwrap();
        symlink("../outside", folder.join("l")).unwrap();
        let followed = hash(&folder, &cache, Links::Follow).unwrap();
        assert_eq!(followed.files, 1);
        let e = hash(&folder, &cache, Links::Refuse).unwrap_err().to_string();
        assert!(e.contains("leads out of the output"), "{e}");
    }

    /// A small tree as a list: path, and what is there.
    type Model = std::collections::BTreeMap<String, Thing>;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Thing {
        Folder,
        File(Vec<u8>, bool),
        Link(String),
    }

    /// The next number of a counter-based generator, below `n`.
    fn random(state: &mut u64, n: usize) -> usize {
        *state += 1;
        let hash = blake3::hash(&state.to_le_bytes());
        usize::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap()) % n
    }

    /// Adds, takes away or changes one thing. Names and contents are few, so that trees are often nearly alike.
    fn mutate(model: &mut Model, state: &mut u64) {
        const NAMES: [&str; 6] = ["a", "b", "ab", "a b", "\u{e9}", "x"];
        let name = NAMES[random(state, NAMES.len())];
        let folders =
            model.iter().filter(|(_, thing)| **thing == Thing::Folder).map(|(path, _)| format!("{path}/"));
        let folders: Vec<String> = std::iter::once(String::new()).chain(folders).collect();
        let path = format!("{}{name}", folders[random(state, folders.len())]);
        let below = format!("{path}/");
        model.retain(|other, _| *other != path && !other.starts_with(&below));
        let content = [&b""[..], b"a", b"b", b"ab", b"f\x01\0\0\0a"][random(state, 5)].to_vec();
        match random(state, 5) {
            0 => {}
            1 => drop(model.insert(path, Thing::Folder)),
            2 => drop(model.insert(path, Thing::Link(["a", "b", "ab"][random(state, 3)].into()))),
            n => drop(model.insert(path, Thing::File(content, n == 3))),
        }
    }

    #[test]
    fn trees_have_equal_digests_exactly_when_they_are_equal() {
        let dir = tempfile::tempdir().unwrap();
        let cache = StatCache::open(dir.path().join("cache"));
        let (mut state, mut model) = (0, Model::new());
        let mut seen: std::collections::HashMap<Digest, Model> = std::collections::HashMap::new();
        let mut digests: std::collections::BTreeMap<Vec<(String, Thing)>, Digest> = Default::default();
        for case in 0..600 {
            if case % 40 == 0 {
                model.clear();
            }
            mutate(&mut model, &mut state);
            let root = dir.path().join(case.to_string());
            fs::create_dir(&root).unwrap();
            for (path, thing) in &model {
                let path = root.join(path);
                match thing {
                    Thing::Folder => fs::create_dir(&path).unwrap(),
                    Thing::Link(target) => symlink(target, &path).unwrap(),
                    Thing::File(content, program) => {
                        fs::write(&path, content).unwrap();
                        let mode = if *program { 0o755 } else { 0o644 };
                        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
                    }
                }
            }
            let digest = hash(&root, &cache, Links::Keep).unwrap().digest;
            let other = seen.entry(digest).or_insert_with(|| model.clone());
            assert_eq!(*other, model, "two trees share a digest");
            let known: Vec<_> = model.clone().into_iter().collect();
            assert_eq!(*digests.entry(known).or_insert(digest), digest, "one tree has two digests");
        }
        assert!(seen.len() > 200 && digests.len() < 600, "{} trees", seen.len());
    }
}

//! Hashing files and folders, reading only what the stat cache does not know.

use crate::contents;
use crate::digest::{Digest, Kind};
use crate::error::{IoContext, Result};
use crate::listing::{below, list, open_file, sort, special, stat};
use crate::manifest::{Item, Manifest};
use crate::small_path::SmallPath;
use crate::statcache::{self, Stat, StatCache};
use rayon::prelude::*;
use rustix::fs::{AtFlags, statat};
use std::fs::{self, Metadata};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use crate::listing::Links;

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

/// Hashes the file or folder at `path`; a link at `path` itself is followed.
pub fn hash(path: &Path, cache: &StatCache, links: Links) -> Result<Hashed> {
    let meta = fs::metadata(path).at("reading", path)?;
    if meta.is_dir() {
        let mut entries = list(path, links, |mut some, folder| {
            let looked = some.par_iter_mut().with_min_len(256);
            looked.try_for_each_init(PathBuf::new, |full, entry| {
                if let Item::File(digest, size) = &mut entry.item {
                    (*digest, *size) = look(path, &entry.path, folder, full, cache, links)?;
                }
                Ok(())
            })?;
            Ok(some)
        })?;
        sort(&mut entries, |entry| &entry.path);
        let manifest = Manifest(entries);
        return Ok(Hashed {
            digest: manifest.digest(),
            bytes: manifest.bytes(),
            files: manifest.files(),
            manifest: Some(manifest),
        });
    }
    if !meta.is_file() {
        return Err(special(path, &meta));
    }
    if let Links::Refuse = links {
        open_file(path, &meta)?;
    }
    Ok(Hashed { digest: content(path, &meta, cache)?, bytes: meta.len(), files: 1, manifest: None })
}

/// The digest and the size of a file that was listed below `root`, whose descriptor is `folder`. One that the stat cache
/// knows is asked for once, from there; `full` is used again for the others.
fn look(
    root: &Path,
    path: &Path,
    folder: BorrowedFd,
    full: &mut PathBuf,
    cache: &StatCache,
    links: Links,
) -> Result<(Digest, u64)> {
    // An output's file may have to be made readable first.
    if !matches!(links, Links::Refuse)
        && let Ok(stat) = statat(folder, path, AtFlags::SYMLINK_NOFOLLOW)
    {
        let stat = Stat::from(&stat);
        if let Some(digest) = cache.known(|| root.join(path), &stat) {
            return Ok((digest, stat.size));
        }
    }
    let full = below(full, root, path);
    let meta = stat(full, links)?;
    Ok((content(full, &meta, cache)?, meta.len()))
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
    pub fn sum(stamps: &[(SmallPath, Self)]) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for (_, stamp) in stamps {
            hasher.update(&stamp.content.to_le_bytes()).update(&stamp.ctime.to_le_bytes());
        }
        Digest::file(hasher.finalize(), false)
    }
}

/// The stamps of a file, or of every file in a folder, by path below it.
pub fn stamps(path: &Path, links: Links) -> Result<Vec<(SmallPath, Stamp)>> {
    let meta = fs::metadata(path).at("reading", path)?;
    if !meta.is_dir() {
        return Ok(vec![("".into(), Stamp::new(Path::new(""), &meta))]);
    }
    let mut stamped = list(path, links, |some, _| {
        let files = some.into_par_iter().with_min_len(256);
        let files = files.filter(|entry| matches!(entry.item, Item::File(..)));
        let stamped = files.map_init(PathBuf::new, |full, entry| {
            let stamp = Stamp::new(&entry.path, &stat(below(full, path, &entry.path), links)?);
            Ok((entry.path, stamp))
        });
        stamped.collect()
    })?;
    sort(&mut stamped, |(path, _)| path);
    Ok(stamped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ignore::Ignore;
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

    fn file(path: impl AsRef<Path>, text: &str) {
        fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The items of a folder that is read, by path.
    fn items(path: &Path, links: Links) -> std::collections::BTreeMap<String, Item> {
        let manifest = hash(path, &StatCache::empty(), links).unwrap().manifest.unwrap();
        manifest.0.into_iter().map(|e| (e.path.to_str().unwrap().to_string(), e.item)).collect()
    }

    #[test]
    fn links_of_an_input() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let root = base.join("f");
        file(base.join("outside/deep/x"), "x");
        file(base.join("outside/y"), "y");
        file(root.join("d/own"), "own");
        let link = |target: &str, path: &str| symlink(target, root.join(path)).unwrap();
        let absolute = |path: &str| base.join(path).display().to_string();
        link("../outside/y", "file");
        link("../outside", "folder");
        link("d/own", "inside");
        link(&absolute("f/d/own"), "d/inside-absolute");
        link("nowhere", "broken");
        link("/nowhere/at/all", "broken-absolute");
        link("d/own/below", "below-a-file");
        link("round", "round");
        link(&absolute("f/turn"), "turn");
        link("..", "above");
        // What a link leads to may have links: into itself, back to us, and elsewhere.
        symlink("../y", base.join("outside/deep/in")).unwrap();
        symlink(absolute("f"), base.join("outside/back")).unwrap();
        symlink(absolute("outside"), base.join("outside/self")).unwrap();
        let items = items(&root, Links::Follow(&Ignore::nothing()));
        let leads = |path: &str, target: &str| assert_eq!(items[path], Item::Link(target.into()), "{path}");
        let holds = |path: &str| assert!(matches!(items[path], Item::File(..)), "{path}: {:?}", items[path]);
        ["file", "folder/y", "folder/deep/x", "d/own"].into_iter().for_each(holds);
        assert_eq!((&items["folder"], &items["folder/deep"]), (&Item::Folder, &Item::Folder));
        leads("inside", "d/own");
        leads("d/inside-absolute", "own");
        leads("broken", "nowhere");
        leads("broken-absolute", "/nowhere/at/all");
        leads("below-a-file", "d/own/below");
        leads("round", "round");
        leads("turn", "turn");
        leads("above", "..");
        leads("folder/deep/in", "../y");
        leads("folder/back", &absolute("f"));
        leads("folder/self", ".");
        assert_eq!(items.len(), 18);
    }

    #[test]
    fn links_of_an_output_are_made_to_stay() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("o");
        file(root.join("v1/model"), "w");
        symlink(root.join("v1"), root.join("latest")).unwrap();
        symlink("../o/v1/model", root.join("by-name")).unwrap();
        symlink("nothing", root.join("broken")).unwrap();
        let read = items(&root, Links::Refuse);
        assert_eq!(read["latest"], Item::Link("v1".into()));
        assert_eq!(read["by-name"], Item::Link("v1/model".into()));
        assert_eq!(read["broken"], Item::Link("nothing".into()));
        // The folder is what was read, wherever it is moved.
        let moved = dir.path().join("elsewhere/deeper");
        fs::create_dir_all(moved.parent().unwrap()).unwrap();
        fs::rename(&root, &moved).unwrap();
        assert_eq!(items(&moved, Links::Keep), read);
        assert_eq!(fs::read_to_string(moved.join("latest/model")).unwrap(), "w");
        assert_eq!(fs::read_to_string(moved.join("by-name")).unwrap(), "w");
        for target in ["/etc/hostname", "/nowhere", "../nowhere", "../../x"] {
            symlink(target, moved.join("out")).unwrap();
            let error = hash(&moved, &StatCache::empty(), Links::Refuse).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("out is a link that leads out of the output, to {target}")),
                "{error}"
            );
            fs::remove_file(moved.join("out")).unwrap();
        }
    }

    #[test]
    fn what_is_neither_file_nor_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap();
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        symlink("/dev/null", dir.path().join("device")).unwrap();
        for (name, what) in [("pipe", "a named pipe"), ("socket", "a socket"), ("device", "a device")] {
            let folder = tempfile::tempdir().unwrap();
            fs::rename(dir.path().join(name), folder.path().join(name)).unwrap();
            let full = folder.path().join(name);
            let expected = format!("{} is {what}, neither a file nor a folder", full.display());
            let ignore = Ignore::nothing();
            for path in [folder.path(), &full] {
                let error = hash(path, &StatCache::empty(), Links::Follow(&ignore)).unwrap_err();
                assert_eq!(error.to_string(), expected);
            }
        }
    }

    #[test]
    fn what_is_ignored_is_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path().join("a/x"), "x");
        let ignore = Ignore::new(["secret", "*.pyc"]).unwrap();
        let before = items(dir.path(), Links::Follow(&ignore));
        file(dir.path().join("a/x.pyc"), "");
        symlink("/dev/null", dir.path().join("secret")).unwrap();
        assert_eq!(items(dir.path(), Links::Follow(&ignore)), before);
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

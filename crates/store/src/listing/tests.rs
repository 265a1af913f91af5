//! Folders of many files, read while they are looked at: what comes out is what a plain walk sees.

use crate::digest::{Digest, Kind};
use crate::error::Error;
use crate::ignore::Ignore;
use crate::manifest::{Entry, Item, Manifest};
use crate::statcache::StatCache;
use crate::walk::{self, Links};
use std::ffi::OsString;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// More than two batches.
const MANY: usize = 4000;

/// What is in a folder without links, one thing after another and every file read.
fn plain(root: &Path, below: &Path, found: &mut Vec<Entry>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        let meta = entry.metadata().unwrap();
        let item = match meta.is_dir() {
            true => Item::Folder,
            false => {
                let bytes = fs::read(root.join(&path)).unwrap();
                Item::File(
                    Digest::file(blake3::hash(&bytes), meta.permissions().mode() & 0o100 != 0),
                    meta.len(),
                )
            }
        };
        found.push(Entry { path: path.as_path().into(), item });
        if meta.is_dir() {
            plain(root, &path, found);
        }
    }
}

fn expected(root: &Path) -> Manifest {
    let mut found = Vec::new();
    plain(root, Path::new(""), &mut found);
    found.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
    Manifest(found)
}

/// A name of a file, every seventh of which is no text, and every eleventh longer than a short path.
fn name(i: usize) -> OsString {
    match i {
        i if i.is_multiple_of(7) => OsString::from_vec([b"\xff\xe9", i.to_string().as_bytes()].concat()),
        i if i.is_multiple_of(11) => format!("{i:0>60}").into(),
        i => i.to_string().into(),
    }
}

/// Makes a file that a stat cache believes at once.
fn old_file(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    let old = SystemTime::now() - Duration::from_secs(100);
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(old)).unwrap();
}

/// A folder with everything: many files, deep ones, empty folders, names that are no text, programs, hard links.
fn everything(root: &Path) {
    fs::create_dir(root).unwrap();
    (0..MANY).for_each(|i| old_file(&root.join(name(i)), &(i % 50).to_string()));
    for i in 0..300 {
        let folder = root.join(format!("folder {}", i % 20)).join(name(i)).join("deep");
        fs::create_dir_all(&folder).unwrap();
        (0..i % 4).for_each(|k| old_file(&folder.join(name(7 * k)), "deep"));
    }
    for i in (1..MANY).step_by(97) {
        fs::set_permissions(root.join(name(i)), PermissionsExt::from_mode(0o755)).unwrap();
        fs::hard_link(root.join(name(i)), root.join(format!("other name of {i}"))).unwrap();
    }
}

#[test]
fn a_large_folder_is_what_a_plain_walk_sees() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("f");
    everything(&root);
    let cache = StatCache::open(dir.path().join("cache"));
    // What was just made is not believed yet; that others cannot write it is.
    let believe = |path: &Path| {
        for entry in expected(path).0 {
            if let Item::File(digest, _) = entry.item {
                let full = path.join(&entry.path);
                cache.put(&full, &fs::symlink_metadata(&full).unwrap(), &digest, None);
            }
        }
    };
    let nothing = Ignore::nothing();
    for round in 0..4 {
        let plain = expected(&root);
        for links in [Links::Keep, Links::Follow(&nothing), Links::Refuse] {
            let hashed = walk::hash(&root, &cache, links).unwrap();
            assert_eq!(hashed.manifest.as_ref(), Some(&plain), "round {round}");
            assert_eq!((hashed.digest, hashed.files), (plain.digest(), plain.files()));
        }
        let stamps = walk::stamps(&root, Links::Follow(&nothing)).unwrap();
        let files = plain.0.iter().filter(|entry| matches!(entry.item, Item::File(..)));
        assert!(stamps.iter().map(|(path, _)| path).eq(files.map(|entry| &entry.path)));
        believe(&root);
        // One is written, one taken away, one renamed, one made, one becomes a folder; the others are known.
        fs::write(root.join(name(10 + round)), format!("round {round}")).unwrap();
        fs::remove_file(root.join(name(100 + round))).unwrap();
        fs::rename(root.join(name(200 + round)), root.join(format!("renamed {round}"))).unwrap();
        old_file(&root.join(format!("new {round}")), "new");
        fs::remove_file(root.join(name(300 + round))).unwrap();
        fs::create_dir(root.join(name(300 + round))).unwrap();
    }
}

#[test]
fn what_is_ignored_does_not_count_however_many() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("f");
    everything(&root);
    let plain = expected(&root).digest();
    let ignore = Ignore::new(["*.pyc", "cache", "/top"]).unwrap();
    for i in 0..MANY {
        fs::write(root.join(format!("{i}.pyc")), "").unwrap();
    }
    fs::create_dir_all(root.join("cache/deep")).unwrap();
    fs::create_dir_all(root.join("folder 1/cache")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe.pyc"), 0o600.into()).unwrap();
    fs::write(root.join("folder 1/cache/x"), "x").unwrap();
    fs::write(root.join("top"), "x").unwrap();
    symlink("nowhere", root.join("link.pyc")).unwrap();
    let cache = StatCache::empty();
    assert_eq!(walk::hash(&root, &cache, Links::Follow(&ignore)).unwrap().digest, plain);
    fs::write(root.join("folder 1/top"), "x").unwrap();
    assert_ne!(walk::hash(&root, &cache, Links::Follow(&ignore)).unwrap().digest, plain);
}

#[test]
fn a_link_where_a_known_file_was_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("f"), dir.path().join("outside"));
    fs::create_dir(&root).unwrap();
    old_file(&root.join("x"), "before");
    old_file(&outside, "outside");
    let (cache, nothing) = (StatCache::open(dir.path().join("cache")), Ignore::nothing());
    let item = || {
        let hashed = walk::hash(&root, &cache, Links::Follow(&nothing)).unwrap();
        hashed.manifest.unwrap().0[0].item.clone()
    };
    let of = |text: &str| Item::File(Digest::file(blake3::hash(text.as_bytes()), false), text.len() as u64);
    assert_eq!(item(), of("before"));
    fs::remove_file(root.join("x")).unwrap();
    symlink(&outside, root.join("x")).unwrap();
    // Whatever is believed of the link's own inode.
    let wrong = Digest { kind: Kind::File, hash: [9; 32] };
    cache.put(&root.join("x"), &fs::symlink_metadata(root.join("x")).unwrap(), &wrong, None);
    assert_eq!(item(), of("outside"));
}

#[test]
fn a_folder_that_changes_while_it_is_read_gives_what_was_there_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("f");
    fs::create_dir(&root).unwrap();
    (0..MANY).for_each(|i| fs::write(root.join(format!("stays {i}")), i.to_string()).unwrap());
    let cache = StatCache::open(dir.path().join("cache"));
    let (done, mut good) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let (file, folder) = (root.join(format!("comes {}", i % 64)), root.join("goes"));
                let _ = fs::write(&file, i.to_string()).and_then(|()| fs::create_dir(&folder));
                let _ =
                    fs::write(folder.join("x"), "x").and_then(|()| fs::rename(&folder, root.join("gone")));
                let _ = fs::remove_dir_all(root.join("gone")).and_then(|()| fs::remove_file(&file));
            }
        });
        for _ in 0..40 {
            let Ok(hashed) = walk::hash(&root, &cache, Links::Keep) else { continue };
            good += 1;
            let manifest = hashed.manifest.unwrap();
            let stays = |entry: &&Entry| entry.path.as_os_str().as_bytes().starts_with(b"stays");
            let stays: Vec<&Entry> = manifest.0.iter().filter(stays).collect();
            assert_eq!(stays.len(), MANY);
            for entry in stays {
                let number = entry.path.to_str().unwrap().strip_prefix("stays ").unwrap();
                let digest = Digest::file(blake3::hash(number.as_bytes()), false);
                assert_eq!(entry.item, Item::File(digest, number.len() as u64));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    // Now that it is still, it is seen as it is.
    let _ = fs::remove_dir_all(root.join("goes"));
    assert_eq!(walk::hash(&root, &cache, Links::Keep).unwrap().digest, expected(&root).digest());
    assert!(good <= 40);
}

#[test]
fn what_cannot_be_listed_is_told_before_what_cannot_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("f");
    fs::create_dir(&root).unwrap();
    (0..MANY).for_each(|i| fs::write(root.join(i.to_string()), "").unwrap());
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), 0o600.into()).unwrap();
    for links in [Links::Keep, Links::Follow(&Ignore::nothing()), Links::Refuse] {
        let error = walk::hash(&root, &StatCache::empty(), links).unwrap_err();
        assert!(matches!(&error, Error::Special { path, .. } if path == &root.join("pipe")), "{error}");
    }
    // An output that is refused is left as it was.
    fs::set_permissions(root.join("1"), PermissionsExt::from_mode(0o044)).unwrap();
    walk::hash(&root, &StatCache::empty(), Links::Refuse).unwrap_err();
    assert_eq!(fs::metadata(root.join("1")).unwrap().permissions().mode() & 0o777, 0o044);
    fs::remove_file(root.join("pipe")).unwrap();
    walk::hash(&root, &StatCache::empty(), Links::Refuse).unwrap();
    assert_eq!(fs::metadata(root.join("1")).unwrap().permissions().mode() & 0o777, 0o444);
}

//! What is believed of a file by its times, and what is not.

use super::*;
use std::fs::{self, File, FileTimes};
use std::time::Duration;

fn digest(byte: u8) -> Digest {
    Digest { kind: Kind::File, hash: [byte; 32] }
}

/// A file of a state, without a file.
fn seen(mtime: i64, ctime: i64) -> Seen {
    Seen { size: 4, mtime, ctime, path: 0 }
}

#[test]
fn an_edit_with_its_mtime_put_back_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, "aaaa").unwrap();
    let old = SystemTime::now() - Duration::from_secs(100);
    let backdate = || {
        let file = File::options().write(true).open(&path).unwrap();
        file.set_times(FileTimes::new().set_modified(old)).unwrap();
    };
    backdate();
    let cache = StatCache::open(dir.path().join("cache"));
    let before = fs::metadata(&path).unwrap();
    // Long after the change, as the clock of a test has it.
    cache.put(&path, &before, &digest(1), Some(now() + 100 * SECOND));
    assert_eq!(cache.get(&path, &before), Some(digest(1)));
    std::thread::sleep(Duration::from_millis(20));
    fs::write(&path, "bbbb").unwrap();
    backdate();
    let after = fs::metadata(&path).unwrap();
    assert_eq!((after.len(), after.modified().unwrap()), (before.len(), before.modified().unwrap()));
    assert_eq!(cache.get(&path, &after), None);
}

#[test]
fn a_file_just_written_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, "a").unwrap();
    let cache = StatCache::open(dir.path().join("cache"));
    let meta = fs::metadata(&path).unwrap();
    cache.put(&path, &meta, &digest(1), Some(now()));
    assert_eq!(cache.get(&path, &meta), None);
    cache.put(&path, &meta, &digest(1), None);
    assert_eq!(cache.get(&path, &meta), Some(digest(1)));
}

#[test]
fn an_old_mtime_does_not_make_a_new_content_old() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, "a").unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_times(FileTimes::new().set_modified(UNIX_EPOCH)).unwrap();
    let cache = StatCache::open(dir.path().join("cache"));
    let meta = fs::metadata(&path).unwrap();
    cache.put(&path, &meta, &digest(1), Some(now()));
    assert_eq!(cache.get(&path, &meta), None, "another writer could put the mtime back within the same tick");
}

#[test]
fn a_stamp_is_settled_when_no_later_change_can_have_it() {
    let day = 86_400 * SECOND;
    // For each granularity, every change that comes after a settled reading has another ctime.
    for tick in [1, 4_000_000, SECOND, 2 * SECOND] {
        for offset in (0..8).map(|i| i * SECOND / 2 + 1) {
            let written = day + offset;
            let ctime = written / tick * tick;
            for read_at in (0..120).map(|i| written + i * SECOND / 20) {
                for mtime in [ctime, 0] {
                    let settled = seen(mtime, ctime).settled(read_at);
                    let next = read_at / tick * tick;
                    assert!(!settled || next != ctime, "tick {tick}, read {} after", read_at - written);
                }
            }
            assert!(seen(ctime, ctime).settled(written + 6 * SECOND));
        }
    }
    assert!(!seen(i64::MAX, 0).settled(day) && !seen(0, i64::MAX).settled(day));
    // Whole seconds may be even ones of a clock that is moved on late.
    let (whole, fine) = (seen(day, day), seen(day, day + 1));
    assert!(!whole.settled(day + 3 * SECOND) && fine.settled(day + 3 * SECOND));
}

#[test]
fn a_server_whose_clock_is_behind_is_not_believed_too_early() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, "a").unwrap();
    let meta = fs::metadata(&path).unwrap();
    let mut cache = StatCache::open(dir.path().join("cache"));
    cache.put(&path, &meta, &digest(1), Some(now() + 10 * SECOND));
    assert_eq!(cache.get(&path, &meta), Some(digest(1)));
    // The file seems ten seconds old, to us.
    cache.behind = OnceLock::from(10 * SECOND);
    cache.put(&path, &meta, &digest(1), Some(now() + 10 * SECOND));
    assert_eq!(cache.get(&path, &meta), None);
}

#[test]
fn without_fractions_a_number_is_believed_for_one_path_only() {
    let (whole, fine) = (seen(1, SECOND), seen(1, SECOND + 1));
    let [x, y] = ["x", "y"].map(Path::new);
    assert_eq!(whole.named(x), whole.named(x));
    assert_ne!(whole.named(x), whole.named(y));
    // A file that is moved is known where its times are good enough.
    assert_eq!(fine.named(x), fine.named(y));
}

#[test]
fn kept_in_a_file_that_notices_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, "a").unwrap();
    let meta = fs::metadata(&path).unwrap();
    let cache = StatCache::open(dir.path().join("cache"));
    cache.put(&path, &meta, &digest(3), None);
    cache.save();
    assert_eq!(StatCache::open(dir.path().join("cache")).get(&path, &meta), Some(digest(3)));
    let mut bytes = fs::read(dir.path().join("cache")).unwrap();
    bytes[60] ^= 1;
    fs::write(dir.path().join("cache"), bytes).unwrap();
    assert_eq!(StatCache::open(dir.path().join("cache")).get(&path, &meta), None);
}

#[test]
fn what_is_new_is_written_between_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let entry = |hash: u8| Entry { seen: seen(0, 1), hash: [hash; 32], trusted: true };
    let learn = |cache: &StatCache, keys: &[Key], hash: u8| {
        keys.iter().for_each(|key| cache.lock().put(&entry(hash).record(key)));
        cache.any_new.store(true, Ordering::Release);
    };
    // So many that the file is read beside other work.
    let keys: Vec<Key> = (0..20_000).map(|i| (i % 2, i * 3)).collect();
    learn(&StatCache::open(path.clone()), &keys, 1);
    assert!(fs::metadata(&path).unwrap().len() > LARGE);
    let others = [(0, 1), (0, 6), (1, 9), (1, 90_000)];
    learn(&StatCache::open(path.clone()), &others, 2);
    let cache = StatCache::open(path);
    for key in keys.iter().chain(&others) {
        let hash = if others.contains(key) { 2 } else { 1 };
        assert_eq!(cache.entry(key), Some(entry(hash)), "{key:?}");
    }
    // (0, 6) and (1, 9) were there before.
    assert_eq!((cache.kept.len(), cache.entry(&(2, 0))), (20_002, None));
    let lie: Vec<Key> = (0..cache.kept.len()).map(|number| cache.kept.key(number)).collect();
    assert!(lie.is_sorted());
}

//! Outputs as stages leave them: modes, links, what is refused.

use super::*;
use std::os::unix::fs::symlink;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), "test").unwrap();
    (dir, store)
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_mode_is_narrowed_and_never_widened() {
    for (had, has) in [
        (0o644, 0o444),
        (0o600, 0o400),
        (0o640, 0o440),
        (0o666, 0o444),
        (0o755, 0o555),
        (0o700, 0o500),
        (0o000, 0o400),
    ] {
        let (dir, store) = store();
        let out = dir.path().join("out");
        write(&out, "content", had);
        let taken = store.ingest(&out).unwrap();
        assert_eq!(mode(&store.place(&taken.digest)), has, "{had:o}");
    }
}

#[test]
fn a_private_folder_keeps_its_files_private() {
    let (dir, store) = store();
    let out = dir.path().join("out");
    write(&out.join("open/x"), "x", 0o644);
    write(&out.join("closed/deep/y"), "y", 0o644);
    write(&out.join("group/z"), "z", 0o644);
    fs::set_permissions(out.join("closed"), Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(out.join("group"), Permissions::from_mode(0o750)).unwrap();
    let taken = store.ingest(&out).unwrap();
    let modes = |store: &Store| {
        let view = store.place(&taken.digest);
        ["open/x", "closed/deep/y", "group/z"].map(|path| mode(&view.join(path)))
    };
    assert_eq!(modes(&store), [0o444, 0o400, 0o440]);
    // Also in a view that is made again.
    link::remove(&store.place(&taken.digest)).unwrap();
    assert!(store.materialize(&taken.digest).unwrap());
    assert_eq!(modes(&store), [0o444, 0o400, 0o440]);
    let mode_of_blob = |entry: &crate::manifest::Entry| match &entry.item {
        Item::File(digest, _) => Some(mode(&store.place(digest))),
        _ => None,
    };
    let blobs: Vec<u32> = taken.manifest.unwrap().0.iter().filter_map(mode_of_blob).collect();
    assert_eq!(blobs, [0o400, 0o440, 0o444]);
}

#[test]
fn a_file_with_another_name_is_left_alone() {
    let (dir, store) = store();
    let theirs = dir.path().join("theirs");
    write(&theirs, "precious", 0o664);
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::hard_link(&theirs, out.join("linked")).unwrap();
    // Two names, both of which are the output's.
    write(&out.join("a"), "twice", 0o644);
    fs::hard_link(out.join("a"), out.join("b")).unwrap();
    let twice = fs::metadata(out.join("a")).unwrap().ino();
    let taken = store.ingest(&out).unwrap();
    let meta = fs::metadata(&theirs).unwrap();
    assert_eq!((meta.mode() & 0o777, meta.nlink()), (0o664, 1));
    fs::write(&theirs, "changed!").unwrap();
    assert!(store.materialize(&taken.digest).unwrap());
    let view = store.place(&taken.digest);
    assert_eq!(fs::read_to_string(view.join("linked")).unwrap(), "precious");
    let Some(Item::File(digest, _)) = taken.manifest.unwrap().0.first().map(|e| e.item.clone()) else {
        panic!()
    };
    assert_eq!(fs::metadata(store.place(&digest)).unwrap().ino(), twice, "our own file was copied");
}

#[test]
fn a_name_that_a_watch_gave_is_our_own() {
    let (_dir, store) = store();
    let out = store.folder(Area::Attempts).join("0123/out/o");
    write(&out.join("step-1"), "weights", 0o644);
    let seen = store.folder(Area::Attempts).join("watch-0123-o/seen");
    fs::create_dir_all(&seen).unwrap();
    fs::hard_link(out.join("step-1"), seen.join("step-1")).unwrap();
    let inode = fs::metadata(out.join("step-1")).unwrap().ino();
    let taken = store.ingest(&out).unwrap();
    let Some(Item::File(digest, _)) = taken.manifest.unwrap().0.first().map(|e| e.item.clone()) else {
        panic!()
    };
    assert_eq!(fs::metadata(store.place(&digest)).unwrap().ino(), inode, "it was copied");
}

#[test]
fn a_folder_of_somebody_else_is_copied_as_it_counts() {
    let (dir, store) = store();
    let theirs = dir.path().join("theirs");
    write(&theirs.join("d/x"), "x", 0o600);
    write(&dir.path().join("outside"), "outside", 0o644);
    symlink("../outside", theirs.join("followed")).unwrap();
    symlink(theirs.join("d"), theirs.join("latest")).unwrap();
    let adopted = store.import_copy(&theirs).unwrap();
    let view = store.place(&adopted.digest);
    assert_eq!(fs::read_to_string(view.join("latest/x")).unwrap(), "x");
    assert_eq!(fs::read_link(view.join("latest")).unwrap(), Path::new("d"));
    assert_eq!(fs::read_to_string(view.join("followed")).unwrap(), "outside");
    assert_eq!(mode(&view.join("d/x")), 0o400);
    assert_eq!((mode(&theirs.join("d/x")), fs::metadata(theirs.join("d/x")).unwrap().nlink()), (0o600, 1));
    assert!(store.list(Area::Attempts).is_empty());
    // A link to nothing outside would show what is there one day.
    symlink("/nowhere", theirs.join("broken")).unwrap();
    let error = store.import_copy(&theirs).unwrap_err().to_string();
    assert!(error.contains("\"broken\" is a link that leads out of the folder"), "{error}");
}

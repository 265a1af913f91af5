//! Replacing an earlier output, killed at any moment.

use super::*;
use crate::exit_code;

const LAYOUT: Layout = Layout::of(&["#", "parts/#"]);

/// A folder with one file.
fn staged(target: &Path, text: &str) -> Staged {
    let staged = Staged::folder(target, &LAYOUT).unwrap();
    fs::write(staged.path().join("0"), text).unwrap();
    staged
}

fn content(target: &Path) -> String {
    fs::read_to_string(target.join("0")).unwrap()
}

#[test]
fn nothing_is_visible_before_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("a/latents");
    let first = staged(&target, "x");
    assert!(!target.exists());
    first.commit().unwrap();
    assert_eq!(content(&target), "x");

    let dropped = staged(&target, "y");
    let staging = dropped.path().parent().unwrap().to_owned();
    drop(dropped);
    assert!(!staging.exists());
    assert_eq!(content(&target), "x");

    staged(&target, "z").commit().unwrap();
    assert_eq!(content(&target), "z");
    assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
}

#[test]
fn what_came_into_the_target_meanwhile_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("latents");
    staged(&target, "x").commit().unwrap();
    let second = staged(&target, "y");
    fs::write(target.join("thesis.txt"), "t").unwrap();
    let error = second.commit().unwrap_err();
    assert_eq!(exit_code(&error), 2);
    assert!(error.to_string().contains("thesis.txt"), "{error:#}");
    assert_eq!((content(&target), target.join("thesis.txt").exists()), ("x".into(), true));

    // A file or link where a folder is to be, and the other way round.
    let other = dir.path().join("other");
    let folder = staged(&other, "x");
    std::os::unix::fs::symlink(&target, &other).unwrap();
    assert_eq!(exit_code(&folder.commit().unwrap_err()), 2);
    fs::remove_file(&other).unwrap();
    let file = Staged::file(&other).unwrap();
    fs::write(file.path(), "x").unwrap();
    fs::create_dir(&other).unwrap();
    assert_eq!(exit_code(&file.commit().unwrap_err()), 2);
    assert!(other.is_dir() && target.join("thesis.txt").exists());
}

#[test]
fn what_a_killed_run_left_goes_and_an_earlier_output_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("latents");
    staged(&target, "x").commit().unwrap();
    let killed = |text: &str| {
        let staged = staged(&target, text);
        let kept = fs::read(staged.staging.join(MARK)).unwrap();
        let (staging, new) = (staged.staging.clone(), staged.path.clone());
        drop(staged);
        fs::create_dir_all(&new).unwrap();
        fs::write(new.join("0"), text).unwrap();
        fs::write(staging.join(MARK), kept).unwrap();
        staging
    };
    // Before the exchange.
    let staging = killed("half");
    recover(&target).unwrap();
    assert!(!staging.exists());
    assert_eq!(content(&target), "x");
    // Between the two renames of a file system that cannot exchange.
    let staging = killed("new");
    fs::rename(&target, staging.join(EARLIER)).unwrap();
    recover(&target).unwrap();
    assert_eq!(content(&target), "x");
    // After them.
    let staging = killed("new");
    fs::rename(&target, staging.join(EARLIER)).unwrap();
    fs::rename(staging.join(NEW), &target).unwrap();
    recover(&target).unwrap();
    assert_eq!(content(&target), "new");
    // Before it was marked, and while it was unmarked.
    fs::create_dir(&staging).unwrap();
    staged(&target, "last").commit().unwrap();
    assert_eq!((content(&target), staging.exists()), ("last".into(), false));
}

#[test]
fn a_folder_of_somebody_else_is_not_taken_for_a_staging_one() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("latents");
    let theirs = dir.path().join(".latents.staged");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("new"), "theirs").unwrap();
    let error = Staged::folder(&target, &LAYOUT).err().unwrap();
    assert_eq!(exit_code(&error), 2);
    assert!(theirs.join("new").exists());
}

#[test]
fn two_runs_do_not_write_the_same_output() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("latents");
    let first = staged(&target, "x");
    let error = Staged::folder(&target, &LAYOUT).err().unwrap();
    assert!(error.to_string().contains("another run"), "{error:#}");
    first.commit().unwrap();
    assert_eq!(content(&target), "x");
}

//! The split and the configuration that were asked for, and nothing else.

use crate::support::{
    download, images, integers, labels, opens, png, put, refuses, rows, said, table, texts,
};
use std::path::Path;

/// A Parquet file of so many pictures, numbered from `first`.
fn part(path: &Path, first: usize, count: usize) {
    table(path, &[("image", images(first, count)), ("label", integers(&vec![1; count]))]);
}

fn names(dir: &Path, folder: &Path, more: &[&str]) -> Vec<String> {
    rows(&opens(&download(dir, folder, more), dir)).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_file_or_folder_of_another_split_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("train.parquet", "test.parquet"),
        ("train/0.parquet", "test/0.parquet"),
        ("set_train.parquet", "set_test.parquet"),
    ];
    for (i, (train, test)) in files.iter().enumerate() {
        let folder = dir.path().join(format!("data{i}"));
        part(&folder.join(train), 0, 2);
        part(&folder.join(test), 7, 1);
        assert_eq!(names(dir.path(), &folder, &[]), ["0.png", "1.png"], "{train}");
        assert_eq!(names(dir.path(), &folder, &["--split", "test"]), ["7.png"], "{test}");
        std::fs::remove_dir_all(dir.path().join("images")).unwrap();
        let output = download(dir.path(), &folder, &["--split", "nonsense"]);
        refuses(&output, dir.path(), "--split nonsense: the dataset has test, train");
    }
    part(&dir.path().join("plain/a.parquet"), 0, 1);
    let output = download(dir.path(), &dir.path().join("plain"), &["--split", "test"]);
    refuses(&output, dir.path(), "has no splits");
    part(&dir.path().join("data0/extra.parquet"), 3, 1);
    let output = download(dir.path(), &dir.path().join("data0"), &[]);
    assert!(
        said(&output).contains("ignored: a Parquet file of no split (extra.parquet)"),
        "{}",
        said(&output)
    );
}

#[test]
fn several_configurations_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    part(&folder.join("32x32/train/0000.parquet"), 0, 3);
    part(&folder.join("64x64/train/0000.parquet"), 4, 2);
    part(&folder.join("64x64/unlabelled/0000.parquet"), 8, 1);
    let output = download(dir.path(), &folder, &[]);
    refuses(&output, dir.path(), "several configurations: 32x32, 64x64; choose one with --config");
    let output = download(dir.path(), &folder, &["--config", "64x46"]);
    refuses(&output, dir.path(), "did you mean 64x64?");
    assert_eq!(names(dir.path(), &folder, &["--config", "64x64"]), ["4.png", "5.png"]);
    assert_eq!(names(dir.path(), &folder, &["--config", "64x64", "--split", "unlabelled"]), ["8.png"]);

    let one = dir.path().join("one");
    part(&one.join("plain_text/train-00000-of-00001.parquet"), 0, 1);
    part(&one.join("plain_text/test-00000-of-00001.parquet"), 1, 1);
    assert_eq!(names(dir.path(), &one, &[]), ["0.png"]);
}

#[test]
fn folders_of_pictures_have_splits_too() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tree");
    for name in ["train/ant/0.png", "train/bee/1.png", "train/bee/2.png", "val/bee/3.png"] {
        put(&folder.join(name), png(1));
    }
    let train = opens(&download(dir.path(), &folder, &[]), dir.path());
    assert_eq!((train.manifest().classes, labels(&train)), (2, vec![0, 1, 1]));
    let output = download(dir.path(), &folder, &["--split", "val"]);
    assert!(said(&output).contains("class ant has no pictures in val"), "{}", said(&output));
    let val = opens(&output, dir.path());
    // The only class there, but not the first.
    assert_eq!((val.manifest().classes, rows(&val)), (2, vec![("val/bee/3.png".into(), Some(1))]));
    assert_eq!(val.manifest().class_names, ["ant", "bee"]);
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    refuses(&download(dir.path(), &folder, &["--split", "test"]), dir.path(), "the dataset has train, val");
    put(&folder.join("extra/4.png"), png(1));
    refuses(
        &download(dir.path(), &folder, &[]),
        dir.path(),
        "train could be a split, but extra beside it is none",
    );

    let sizes = dir.path().join("sizes");
    for name in ["32/train/ant/0.png", "64/train/ant/1.png"] {
        put(&sizes.join(name), png(1));
    }
    refuses(&download(dir.path(), &sizes, &[]), dir.path(), "several configurations: 32, 64");
    assert_eq!(names(dir.path(), &sizes, &["--config", "64"]), ["64/train/ant/1.png"]);
}

#[test]
fn labels_by_name_have_the_same_number_in_every_split() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    table(
        &folder.join("train.parquet"),
        &[("image", images(0, 3)), ("label", texts(&["ant", "bee", "cow"]))],
    );
    table(&folder.join("test.parquet"), &[("image", images(3, 2)), ("label", texts(&["cow", "ant"]))]);
    let test = opens(&download(dir.path(), &folder, &["--split", "test"]), dir.path());
    assert_eq!((labels(&test), test.manifest().classes), (vec![2, 0], 3));
    assert_eq!(test.manifest().class_names, ["ant", "bee", "cow"]);
}

//! The layouts that have always been read, and what is said of those that cannot be.

use crate::support::{digits, download, opens, pngs, refuses};
use pictures::{PicturesWriter, read_parquet};
use std::fs;
use std::path::Path;

#[test]
fn parquet_files_in_the_hubs_layout_are_taken_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let pictures = opens(&download(dir.path(), &digits(), &[]), dir.path());
    let manifest = pictures.manifest().clone();
    assert_eq!((manifest.rows, manifest.classes, manifest.files.len()), (1797, 10, 2));
    for (i, file) in manifest.files.iter().enumerate() {
        let original = digits().join(format!("train-{i:05}-of-00002.parquet"));
        let taken = dir.path().join("images").join(&file.path);
        assert_eq!(fs::read(taken).unwrap(), fs::read(original).unwrap());
    }
    assert_eq!(pictures.iter().map(Result::unwrap).filter(|p| p.label == Some(3)).count(), 183);

    // The same content gives the same manifest, wherever it lies.
    let other = tempfile::tempdir().unwrap();
    fs::create_dir(other.path().join("elsewhere")).unwrap();
    for name in ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"] {
        fs::copy(digits().join(name), other.path().join("elsewhere").join(name)).unwrap();
    }
    let again = opens(&download(other.path(), Path::new("elsewhere"), &[]), other.path());
    assert_eq!(*again.manifest(), manifest);

    let unlabelled =
        opens(&download(other.path(), Path::new("elsewhere"), &["--labels", "drop"]), other.path());
    assert_eq!(unlabelled.manifest().classes, 1);
    assert!(unlabelled.iter().all(|p| p.unwrap().label.is_none()));
}

#[test]
fn folders_of_classes_and_of_pictures_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for (i, (bytes, label)) in pngs(30).into_iter().enumerate() {
        let class = dir.path().join(format!("tree/class-{label}"));
        fs::create_dir_all(&class).unwrap();
        fs::write(class.join(format!("{i:04}.PNG")), &bytes).unwrap();
        fs::create_dir_all(dir.path().join("flat")).unwrap();
        fs::write(dir.path().join(format!("flat/{i:04}.png")), &bytes).unwrap();
    }
    fs::write(dir.path().join("tree/README.md"), "about").unwrap();
    let tree = opens(&download(dir.path(), Path::new("tree"), &[]), dir.path());
    assert_eq!((tree.manifest().rows, tree.manifest().classes), (30, 10));
    for picture in tree.iter().map(Result::unwrap) {
        assert!(picture.name.starts_with(&format!("class-{}/", picture.label.unwrap())));
    }
    let flat = opens(&download(dir.path(), Path::new("flat"), &[]), dir.path());
    assert_eq!((flat.manifest().rows, flat.manifest().classes), (30, 1));
    let names: Vec<String> = flat.iter().map(|p| p.unwrap().name).collect();
    assert!(names.is_sorted() && names[17] == "0017.png");
}

#[test]
fn what_is_no_picture_is_named_or_left_out_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    fs::create_dir(&folder).unwrap();
    let mut rows: Vec<_> = read_parquet(&digits().join("train-00000-of-00002.parquet"))
        .unwrap()
        .take(40)
        .map(Result::unwrap)
        .collect();
    rows[17].bytes = b"<html>sign in</html>".to_vec();
    rows[23].bytes.truncate(60);
    let mut writer = PicturesWriter::create(&folder.join("train.parquet"), true).unwrap();
    rows.into_iter().for_each(|p| writer.push(p).unwrap());
    writer.finish().unwrap();
    refuses(
        &download(dir.path(), &folder, &[]),
        dir.path(),
        "train.parquet row 17 (0017.png): not a picture but an HTML page",
    );
    refuses(&download(dir.path(), &folder, &["--max-bad", "0.03"]), dir.path(), "that makes 2 of 40");
    let kept = opens(&download(dir.path(), &folder, &["--max-bad", "0.05"]), dir.path());
    assert_eq!(kept.manifest().rows, 38);
    let bad = ["train.parquet row 17 (0017.png)", "train.parquet row 23 (0023.png)"];
    assert_eq!(kept.manifest().bad, bad);
    assert!(kept.iter().all(|p| p.unwrap().name != "0017.png"));
}

#[test]
fn of_many_bad_pictures_the_first_are_named_and_all_counted() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    fs::create_dir(&folder).unwrap();
    let good = read_parquet(&digits().join("train-00000-of-00002.parquet")).unwrap().next().unwrap().unwrap();
    for i in 0..130 {
        let bytes: &[u8] = if i < 4 { &good.bytes } else { b"<html>sign in</html>" };
        fs::write(folder.join(format!("{i:03}.png")), bytes).unwrap();
    }
    fs::write(folder.join("006.png"), "").unwrap();
    let page = "not a picture but an HTML page, as of a login or an error; fetch the file again";
    let empty = "006.png: not a picture but an empty file";
    let many =
        format!("004.png, 005.png, 007.png, 008.png: {page}; {empty}; and 121 more; that makes 126 of 130");
    refuses(&download(dir.path(), &folder, &[]), dir.path(), &many);
    refuses(&download(dir.path(), &folder, &["--max-bad", "0.1"]), dir.path(), &many);
    let remove = |from: usize, to: usize| {
        (from..to).for_each(|i| fs::remove_file(folder.join(format!("{i:03}.png"))).unwrap());
    };
    remove(12, 130);
    let some = format!("{page}; {empty}; and 3 more; that makes 8 of 12, more than --max-bad 0 allows");
    refuses(&download(dir.path(), &folder, &[]), dir.path(), &some);
    remove(6, 12);
    let two = format!("004.png, 005.png: {page}; that makes 2 of 6, more than --max-bad 0.2 allows");
    refuses(&download(dir.path(), &folder, &["--max-bad", "0.2"]), dir.path(), &two);
}

#[test]
fn what_is_no_dataset_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    fs::create_dir(&folder).unwrap();
    refuses(&download(dir.path(), &folder, &[]), dir.path(), "neither Parquet files nor pictures");
    fs::write(folder.join("train.parquet"), "PAR1").unwrap();
    refuses(&download(dir.path(), &folder, &[]), dir.path(), "train.parquet");
    fs::write(folder.join("a.png"), "x").unwrap();
    refuses(
        &download(dir.path(), &folder, &[]),
        dir.path(),
        "both Parquet files (train.parquet) and pictures",
    );
    fs::remove_file(folder.join("train.parquet")).unwrap();
    refuses(&download(dir.path(), &folder, &[]), dir.path(), "a.png: not a picture");
    fs::create_dir(folder.join("class")).unwrap();
    fs::write(folder.join("class/b.png"), "x").unwrap();
    refuses(&download(dir.path(), &folder, &[]), dir.path(), "a.png stands beside folders of pictures");
    refuses(&download(dir.path(), &folder, &["--dataset", "a/b"]), dir.path(), "exactly one source");
    refuses(
        &download(dir.path(), &digits(), &["--split", "test"]),
        dir.path(),
        "--split test: the dataset has train",
    );
}

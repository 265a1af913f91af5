//! Labels in a file beside the pictures.

use crate::support::{download, images, labels, opens, png, put, refuses, rows, said, table, texts};
use std::path::Path;

fn pictures(folder: &Path, names: &[&str]) {
    names.iter().enumerate().for_each(|(i, name)| put(&folder.join(name), png(i)));
}

#[test]
fn the_metadata_of_an_image_folder_says_the_labels() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    pictures(&folder, &["a.png", "b.png", "deep/c.png"]);
    put(
        &folder.join("metadata.csv"),
        "\u{feff}file_name,label,note\nb.png,1,x\na.png,0,\"y, z\"\ndeep/c.png,4,\n",
    );
    let taken = opens(&download(dir.path(), &folder, &[]), dir.path());
    assert_eq!((labels(&taken), taken.manifest().classes), (vec![0, 1, 4], 5));

    std::fs::remove_file(folder.join("metadata.csv")).unwrap();
    let lines =
        ["deep/c.png\", \"species\": \"eel", "a.png\", \"species\": \"ant", "b.png\", \"species\": \"eel"];
    let lines = lines.map(|line| format!("{{\"file_name\": \"{line}\", \"box\": [1, 2]}}\n"));
    put(&folder.join("metadata.jsonl"), lines.concat());
    let output = download(dir.path(), &folder, &[]);
    assert!(said(&output).contains("labels come from the column species"), "{}", said(&output));
    let taken = opens(&output, dir.path());
    assert_eq!(
        (labels(&taken), taken.manifest().class_names.as_slice()),
        (vec![0, 1, 1], ["ant", "eel"].map(String::from).as_slice())
    );
    let dropped = opens(&download(dir.path(), &folder, &["--labels", "drop"]), dir.path());
    assert_eq!(rows(&dropped).len(), 3);
    assert!(rows(&dropped).iter().all(|(_, label)| label.is_none()));

    std::fs::remove_file(folder.join("metadata.jsonl")).unwrap();
    let named = [("file_name", texts(&["a.png", "b.png", "deep/c.png"])), ("kind", texts(&["q", "p", "q"]))];
    table(&folder.join("metadata.parquet"), &named);
    let taken = opens(&download(dir.path(), &folder, &["--label-column", "kind"]), dir.path());
    assert_eq!(labels(&taken), [1, 0, 1]);
}

#[test]
fn numbers_are_classes_however_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    pictures(&folder, &["a.png", "b.png", "c.png"]);
    // As text they would be in the order 0.0, 10.0, 2.0.
    put(&folder.join("metadata.csv"), "file_name,label\na.png,10.0\nb.png,2.0\nc.png,0.0\n");
    let taken = opens(&download(dir.path(), &folder, &[]), dir.path());
    assert_eq!((labels(&taken), taken.manifest().classes), (vec![10, 2, 0], 11));
    std::fs::remove_file(folder.join("metadata.csv")).unwrap();
    let line = |name: &str, label: &str| format!("{{\"file_name\": \"{name}\", \"label\": {label}}}\n");
    let lines = [line("a.png", "10.0"), line("b.png", "2"), line("c.png", "true")];
    put(&folder.join("metadata.jsonl"), lines.concat());
    assert_eq!(labels(&opens(&download(dir.path(), &folder, &[]), dir.path())), [10, 2, 1]);
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    put(&folder.join("metadata.jsonl"), [line("a.png", "0.5"), lines[1].clone(), lines[2].clone()].concat());
    refuses(&download(dir.path(), &folder, &[]), dir.path(), "the column label holds no labels");
}

#[test]
fn a_table_of_another_name_is_not_passed_over_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    pictures(&folder, &["a.png", "b.png"]);
    put(&folder.join("labels.csv"), "id,label\na,0\nb,1\n");
    let output = download(dir.path(), &folder, &[]);
    assert!(said(&output).contains("should labels.csv hold some, a metadata.csv"), "{}", said(&output));
    assert_eq!(opens(&output, dir.path()).manifest().classes, 1);
    let output = download(dir.path(), &folder, &["--labels", "drop"]);
    assert!(!said(&output).contains("hold some"), "{}", said(&output));
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    for (content, what) in [
        (&b""[..], "metadata.csv: an empty file"),
        (b"file_name,label\na.png,\xe9\n", "line 2: byte 7 (0xe9) is no UTF-8; save the file as UTF-8"),
    ] {
        put(&folder.join("metadata.csv"), content);
        refuses(&download(dir.path(), &folder, &[]), dir.path(), what);
    }
}

#[test]
fn metadata_of_each_split_and_of_folders_that_are_classes() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    pictures(&folder, &["train/a.png", "train/b.png", "test/c.png"]);
    put(&folder.join("train/metadata.csv"), "file_name,label\na.png,1\nb.png,0\n");
    put(&folder.join("test/metadata.csv"), "file_name,label\nc.png,2\n");
    assert_eq!(labels(&opens(&download(dir.path(), &folder, &[]), dir.path())), [1, 0]);
    let test = opens(&download(dir.path(), &folder, &["--split", "test"]), dir.path());
    assert_eq!(rows(&test), [("test/c.png".to_string(), Some(2))]);

    let tree = dir.path().join("tree");
    pictures(&tree, &["ant/a.png", "bee/b.png"]);
    put(&tree.join("metadata.csv"), "file_name,caption,width\nant/a.png,an ant,9\nbee/b.png,a bee,9\n");
    let taken = opens(&download(dir.path(), &tree, &[]), dir.path());
    assert_eq!(
        (labels(&taken), taken.manifest().class_names.as_slice()),
        (vec![0, 1], ["ant", "bee"].map(String::from).as_slice())
    );
}

#[test]
fn edms_dataset_json_says_the_labels_and_its_folders_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    pictures(&folder, &["00000/img00000000.png", "00000/img00000001.png", "00001/img00001000.png"]);
    put(
        &folder.join("dataset.json"),
        r#"{"labels": [["00000/img00000000.png", 6], ["00001/img00001000.png", 0], ["00000/img00000001.png", 2]]}"#,
    );
    let taken = opens(&download(dir.path(), &folder, &[]), dir.path());
    assert_eq!((labels(&taken), taken.manifest().classes), (vec![6, 2, 0], 7));
    put(&folder.join("dataset.json"), r#"{"labels": null}"#);
    let output = download(dir.path(), &folder, &[]);
    assert!(
        said(&output).contains("dataset.json: no labels in it, the data is one class"),
        "{}",
        said(&output)
    );
    assert_eq!(opens(&output, dir.path()).manifest().classes, 1);
}

#[test]
fn what_is_missing_on_either_side_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    pictures(&folder, &["a.png", "b.png"]);
    let with = |text: &str, more: &[&str]| {
        put(&folder.join("metadata.csv"), text);
        download(dir.path(), &folder, more)
    };
    refuses(
        &with("file_name,label\na.png,1\n", &[]),
        dir.path(),
        "1 of 2 pictures are not named in it, the first is b.png",
    );
    refuses(&with("file_name,label\na.png,1\nb.png,\n", &[]), dir.path(), "b.png: no label");
    refuses(&with("name,label\na.png,1\nb.png,0\n", &[]), dir.path(), "no column file_name");
    refuses(
        &with("file_name,label\na.png,1\n../b.png,0\n", &[]),
        dir.path(),
        "../b.png is not below its folder",
    );
    refuses(&with("file_name,label\na.png,1\na.png,0\nb.png,0\n", &[]), dir.path(), "a.png is named twice");
    refuses(
        &with("file_name,kind,sort\na.png,1,1\nb.png,0,1\n", &[]),
        dir.path(),
        "the columns kind, sort perhaps hold labels",
    );
    let gone = "file_name,label\na.png,1\nb.png,0\nc.png,2\n";
    refuses(&with(gone, &[]), dir.path(), "c.png: not a picture: named in metadata.csv, but not there");
    let taken = opens(&with(gone, &["--max-bad", "0.4"]), dir.path());
    assert_eq!(
        (labels(&taken), taken.manifest().classes, taken.manifest().bad.as_slice()),
        (vec![1, 0], 3, ["c.png".to_string()].as_slice())
    );
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    put(&folder.join("metadata.jsonl"), "{\"file_name\": \"a.png\"}\n");
    refuses(&download(dir.path(), &folder, &[]), dir.path(), "both metadata.csv and metadata.jsonl");
    std::fs::remove_file(folder.join("metadata.jsonl")).unwrap();
    std::fs::remove_file(folder.join("metadata.csv")).unwrap();
    refuses(
        &download(dir.path(), &folder, &["--label-column", "x"]),
        dir.path(),
        "has no table beside its pictures",
    );
    // A table of pictures is no metadata.
    table(&folder.join("a.parquet"), &[("image", images(0, 1))]);
    refuses(
        &download(dir.path(), &folder, &[]),
        dir.path(),
        "both Parquet files (a.parquet) and pictures (a.png)",
    );
}

//! What `encode` does to what stands at its output.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../crates/stage/tests/support/outputs.rs"]
mod rules;

use pictures::{File, Manifest, PicturesWriter, read_parquet};
use rules::{everything, keeps_folders, refuses, stands_apart, succeeds};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn digits(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/digits").join(name)
}

/// Four digits as `download` lays them out.
fn images(folder: &Path) -> PathBuf {
    let images = folder.join("images");
    fs::create_dir_all(images.join("data")).unwrap();
    let mut writer = PicturesWriter::create(&images.join("data/00000.parquet"), true).unwrap();
    for picture in read_parquet(&digits("train-00000-of-00002.parquet")).unwrap().take(4) {
        writer.push(picture.unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let files = vec![File::describe(&images, "data/00000.parquet", 4).unwrap()];
    let (source, revision) = ("test".into(), "0".into());
    let manifest =
        Manifest { rows: 4, classes: 10, class_names: vec![], source, revision, files, bad: vec![] };
    stage::write_json(&images.join("manifest.json"), &manifest).unwrap();
    images
}

fn encode(images: &Path, to: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_encode"));
    command.args([
        "--threads",
        "1",
        "--device",
        "cpu",
        "--image-size",
        "32",
        "--shard-rows",
        "2",
        "--images",
    ]);
    command.arg(images).arg("--vae").arg(digits("vae.safetensors")).arg("--latents").arg(to);
    command
}

#[test]
fn what_is_not_its_own_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    keeps_folders(dir.path(), "--latents", |to| encode(&images, to));
    stands_apart(dir.path(), "--latents", &images, |to| encode(&images, to));
    // A state folder of the user's, beside the output and named.
    fs::create_dir(dir.path().join("a.state")).unwrap();
    fs::write(dir.path().join("a.state/thesis.txt"), "mine").unwrap();
    refuses(dir.path(), encode(&images, &dir.path().join("a")), &["a.state", "holds thesis.txt"]);
    let mut command = encode(&images, &dir.path().join("b"));
    let output = command.env("PIPELINE_STATE", dir.path().join("a.state")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_to_string(dir.path().join("a.state/thesis.txt")).unwrap(), "mine");
    // Notes in place of the file for events.
    fs::write(dir.path().join("notes"), "mine\n").unwrap();
    let output = command.env("PIPELINE_EVENTS", dir.path().join("notes")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_to_string(dir.path().join("notes")).unwrap(), "mine\n");
}

#[test]
fn earlier_latents_are_replaced_by_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (images, to) = (images(dir.path()), dir.path().join("latents"));
    succeeds(encode(&images, &to));
    let first = everything(dir.path());
    succeeds(encode(&images, &to));
    assert!(everything(dir.path()) == first);
    for mine in ["thesis.txt", "00007.parquet"] {
        fs::write(to.join(mine), "mine").unwrap();
        refuses(dir.path(), encode(&images, &to), &[&format!("holds {mine}, which encode did not make")]);
        fs::remove_file(to.join(mine)).unwrap();
    }
    // A shard that is not the one the manifest lists, and another program's manifest.
    let shard = fs::read(to.join("00000.parquet")).unwrap();
    fs::write(to.join("00000.parquet"), "mine").unwrap();
    refuses(dir.path(), encode(&images, &to), &["holds 00000.parquet"]);
    fs::write(to.join("00000.parquet"), shard).unwrap();
    fs::write(to.join("manifest.json"), "{\"mine\": 1}").unwrap();
    refuses(dir.path(), encode(&images, &to), &["holds manifest.json"]);
}

//! What `download` does to what stands at its outputs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../crates/stage/tests/support/outputs.rs"]
mod rules;

use pictures::read_parquet;
use rules::{everything, keeps_files, keeps_folders, refuses, stands_apart, succeeds};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with a few pictures.
fn some_pictures(folder: &Path) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/digits/train-00000-of-00002.parquet");
    let pictures = folder.join("pictures");
    fs::create_dir(&pictures).unwrap();
    for (i, picture) in read_parquet(&data).unwrap().take(3).enumerate() {
        fs::write(pictures.join(format!("{i}.png")), picture.unwrap().bytes).unwrap();
    }
    pictures
}

fn download(from: &Path, to: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_download"));
    command.arg("--folder").arg(from).arg("--images").arg(to);
    command
}

/// From a server that nobody may ask.
fn weights(sha256: &str, to: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_download"));
    command.args(["--url", "http://127.0.0.1:1/weights", "--sha256", sha256, "--weights"]).arg(to);
    command
}

#[test]
fn what_is_not_its_own_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let from = some_pictures(dir.path());
    keeps_folders(dir.path(), "--images", |to| download(&from, to));
    stands_apart(dir.path(), "--images", &from, |to| download(&from, to));
    keeps_files(dir.path(), "--weights", ".pth", |to| weights("any", to));
    keeps_files(dir.path(), "--weights", ".ckpt", |to| weights(&"00".repeat(32), to));
}

#[test]
fn earlier_pictures_are_replaced_by_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (some_pictures(dir.path()), dir.path().join("images"));
    succeeds(download(&from, &to));
    let first = everything(dir.path());
    succeeds(download(&from, &to));
    assert!(everything(dir.path()) == first);
    for mine in ["thesis.txt", "data/00007.parquet", "data/thesis.txt"] {
        fs::write(to.join(mine), "mine").unwrap();
        refuses(dir.path(), download(&from, &to), &[&format!("holds {mine}, which download did not make")]);
        fs::remove_file(to.join(mine)).unwrap();
    }
    // A dataset of the user's with a manifest of its own.
    fs::write(to.join("manifest.json"), "{\"mine\": 1}").unwrap();
    refuses(dir.path(), download(&from, &to), &["holds manifest.json"]);
}

#[test]
fn weights_that_are_there_are_not_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("vae.safetensors");
    fs::write(&to, "weights").unwrap();
    let digest = stage::sha256(&to).unwrap();
    let said = succeeds(weights(&digest.to_uppercase(), &to));
    assert!(said.contains("is there already"), "{said}");
    assert_eq!(fs::read_to_string(&to).unwrap(), "weights");
}

#[test]
fn what_cannot_be_is_found_without_a_server() {
    let check = |flags: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_download"));
        let output = command.arg("--check").args(flags.split_whitespace()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for flags in
        ["", "--dataset a/b --split val", "--model a/b --file c", "--url http://127.0.0.1:1/w --sha256 any"]
    {
        assert_eq!(check(flags), (Some(0), String::new()), "{flags}");
    }
    for (flags, why) in [
        ("--dataset a/b --model c/d --file e", "give exactly one source"),
        ("--dataset a/b/c", "a dataset of the Hub is called ORGANISATION/NAME"),
        ("--model a/b", "--model and --file go together"),
        ("--url http://127.0.0.1:1/w", "--url needs --sha256"),
        ("--url here --sha256 any", "here is no address"),
        (
            "--url http://127.0.0.1:1/w --sha256 1234",
            "--sha256 1234: neither `any` nor 64 hexadecimal digits",
        ),
        ("--dataset a/b --label-column x --labels drop", "contradict each other"),
        ("--max-bad 2", "2 is more than 1"),
    ] {
        let (code, said) = check(flags);
        assert!(code == Some(2) && said.contains(why) && said.lines().count() == 1, "{flags}: {said}");
    }
}

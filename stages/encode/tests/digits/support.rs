//! Digits as `download` lays them out, and calls of the program.

use pictures::{File, Manifest, Picture, PicturesWriter, read_parquet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub fn digits(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/digits").join(name)
}

/// Some of the digits, in the layout of `download`; one of them broken when `bad` says which.
pub fn images(folder: &Path, count: usize, bad: Option<usize>) {
    std::fs::create_dir_all(folder.join("data")).unwrap();
    let all = read_parquet(&digits("train-00000-of-00002.parquet")).unwrap();
    let mut pictures: Vec<Picture> = all.take(count).map(Result::unwrap).collect();
    if let Some(row) = bad {
        pictures[row].bytes = b"<html>".to_vec();
    }
    let mut files = Vec::new();
    for (i, part) in pictures.chunks(count.div_ceil(2)).enumerate() {
        let name = format!("data/{i:05}.parquet");
        let mut writer = PicturesWriter::create(&folder.join(&name), true).unwrap();
        part.iter().for_each(|p| writer.push(p.clone()).unwrap());
        writer.finish().unwrap();
        files.push(File::describe(folder, &name, part.len()).unwrap());
    }
    let manifest = Manifest {
        rows: count,
        classes: 10,
        class_names: Vec::new(),
        source: "test".into(),
        revision: "0".into(),
        files,
        bad: Vec::new(),
    };
    stage::write_json(&folder.join("manifest.json"), &manifest).unwrap();
}

pub fn encode(dir: &Path, more: &[&str]) -> Output {
    command(dir, more).output().unwrap()
}

pub fn command(dir: &Path, more: &[&str]) -> Command {
    let vae = digits("vae.safetensors");
    let given = |flag: &str| more.contains(&flag);
    let mut command = Command::new(env!("CARGO_BIN_EXE_encode"));
    command.current_dir(dir).env("OMP_NUM_THREADS", "1").args(["--images", "images"]);
    command.args(["--threads", "1"]).args(more);
    if !given("--latents") {
        command.args(["--latents", "latents"]);
    }
    if !given("--device") {
        command.args(["--device", "cpu"]);
    }
    if !given("--image-size") {
        command.args(["--image-size", "32"]);
    }
    if !given("--vae") {
        command.arg("--vae").arg(vae);
    }
    command
}

/// Names and bytes of the files in a folder.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut all: Vec<_> =
        entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect();
    all.sort();
    all
}

pub fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Exit code 2 and one line that says `part`.
pub fn refuses(output: &Output, part: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!((output.status.code(), errors.len()), (Some(2), 1), "{text}");
    assert!(errors[0].contains(part), "{text}");
}

//! Calls of the program.

use crate::recipe::golden;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/digits");

pub fn run(arguments: &[(&str, &Path)]) -> Output {
    command(arguments).output().unwrap()
}

pub fn command(arguments: &[(&str, &Path)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evaluate"));
    // Programs that share two cores must not spin while they wait for their threads.
    command.env("OMP_WAIT_POLICY", "passive");
    command.env_remove("PIPELINE_EVENTS").env_remove("PIPELINE_STATE");
    if !arguments.iter().any(|(flag, _)| *flag == "device") {
        command.args(["--device", "cpu"]);
    }
    if !arguments.iter().any(|(flag, _)| *flag == "threads") {
        command.args(["--threads", "2"]);
    }
    for (flag, value) in arguments {
        command.arg(format!("--{flag}")).arg(value);
    }
    command
}

pub fn done(arguments: &[(&str, &Path)]) {
    let output = run(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The last line of stderr of a run that must be refused.
pub fn refused(arguments: &[(&str, &Path)]) -> String {
    let output = run(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let last = text.lines().last().unwrap().to_string();
    assert!(last.starts_with("error: "), "{text}");
    last
}

pub fn read(path: &Path) -> Json {
    stage::read_json(path).unwrap()
}

pub fn digits(name: &str) -> PathBuf {
    Path::new(DIGITS).join(name)
}

/// Some pictures of the golden samples, in this order, with classes 0 and 1 in turn.
pub fn write_part(path: &Path, rows: &[usize]) {
    let mut npz = npz::Npz::open(&golden("e2e_sample.npz")).unwrap();
    let (mut array, [count, height, width]) = npz::pictures(&mut npz).unwrap();
    let bytes = array.read(count * height * width * 3).unwrap();
    let one = height * width * 3;
    let mut writer = npz::Writer::create(path).unwrap();
    writer.start("arr_0", "|u1", &[rows.len(), height, width, 3]).unwrap();
    rows.iter().for_each(|row| writer.values(&bytes[row * one..][..one]).unwrap());
    writer.integers("arr_1", &rows.iter().map(|row| (row % 2) as i64).collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
}

pub fn samples() -> usize {
    let mut npz = npz::Npz::open(&golden("e2e_sample.npz")).unwrap();
    npz::picture_shape(&mut npz).unwrap()[0]
}

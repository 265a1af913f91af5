//! What `evaluate` does to what stands at its outputs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../crates/stage/tests/support/outputs.rs"]
mod rules;

use rules::{everything, keeps_files, refuses, stands_apart, succeeds};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn digits(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/digits").join(name)
}

fn golden(name: &str) -> PathBuf {
    let given = std::env::var_os("GOLDEN_DIR").map(PathBuf::from);
    let root = given.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden").into());
    root.join("evaluation").join(name)
}

fn evaluate(outputs: &[(&str, &Path)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evaluate"));
    command.env("OMP_WAIT_POLICY", "passive").args(["--device", "cpu", "--threads", "2"]);
    command.arg("--inception").arg(digits("inception.safetensors"));
    command.arg("--reference").arg(golden("e2e_ref.npz"));
    if outputs.iter().any(|(flag, _)| *flag == "--scores") {
        command.arg("--samples").arg(golden("e2e_sample.npz"));
    }
    for (flag, path) in outputs {
        command.arg(flag).arg(path);
    }
    command
}

#[test]
fn what_is_not_its_own_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let outputs = [
        ("--scores", ".json"),
        ("--statistics", ".npz"),
        ("--features", ".parquet"),
        ("--convert", ".safetensors"),
    ];
    for (flag, ending) in outputs {
        keeps_files(dir.path(), flag, ending, |to| evaluate(&[(flag, to)]));
    }
    // The user's own of the same kind: a reference batch, features, weights.
    for (flag, theirs, name) in [
        ("--statistics", golden("e2e_ref.npz"), "batch.npz"),
        ("--features", digits("train-00000-of-00002.parquet"), "data.parquet"),
        ("--convert", digits("inception.safetensors"), "weights.safetensors"),
    ] {
        fs::copy(theirs, dir.path().join(name)).unwrap();
        refuses(
            dir.path(),
            evaluate(&[(flag, &dir.path().join(name))]),
            &[flag, "a file that evaluate did not make"],
        );
    }
    // An input, a folder with it, a folder of the user's for state that it never has.
    let weights = dir.path().join("weights.safetensors");
    stands_apart(dir.path(), "--convert", &weights, |to| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evaluate"));
        command.arg("--inception").arg(&weights).arg("--convert").arg(to);
        command
    });
    let samples = dir.path().join("samples");
    fs::create_dir(&samples).unwrap();
    let mut command = evaluate(&[("--statistics", &samples.join("scores.npz"))]);
    command.arg("--samples").arg(&samples);
    refuses(dir.path(), command, &["--statistics", "lies in --samples"]);
    let same = dir.path().join("same");
    refuses(
        dir.path(),
        evaluate(&[("--statistics", &same), ("--features", &same)]),
        &["--features", "is --statistics"],
    );
}

#[test]
fn earlier_outputs_are_replaced_by_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (scores, statistics) = (at("scores.json"), at("statistics.npz"));
    let (features, converted) = (at("features.parquet"), at("converted.safetensors"));
    let all: [(&str, &Path); 4] = [
        ("--scores", &scores),
        ("--statistics", &statistics),
        ("--features", &features),
        ("--convert", &converted),
    ];
    // What lies under the name of the state folder and is no state is named, and kept.
    fs::create_dir(at("scores.json.state")).unwrap();
    fs::write(at("scores.json.state/thesis.txt"), "mine").unwrap();
    refuses(dir.path(), evaluate(&all), &["scores.json.state", "holds thesis.txt"]);
    assert_eq!(fs::read_to_string(at("scores.json.state/thesis.txt")).unwrap(), "mine");
    fs::remove_dir_all(at("scores.json.state")).unwrap();
    succeeds(evaluate(&all));
    let first = everything(dir.path());
    succeeds(evaluate(&all));
    assert!(everything(dir.path()) == first);
}

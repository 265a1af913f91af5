//! Where one stands: the study is that of the folder, or of the nearest one above.

use crate::study::{Study, TOY, said, stderr};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Output;

/// Calls the runner in a folder of the study.
fn call(study: &Study, folder: &str, arguments: &[&str]) -> Output {
    study.command(arguments).current_dir(study.path(folder)).output().unwrap()
}

#[test]
fn the_study_of_a_folder_above_is_found_and_named() {
    let study = Study::new(TOY);
    study.write("a/b/note", "");
    study.write("a/given/0", "x");
    let run = call(&study, "a/b", &["run", "--quiet"]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!(stderr(&run), "the study is ../../pipeline.yaml\n");
    assert!(study.exists("out/score/scores.json") && study.exists(".pipeline") && !study.exists("a/b/out"));
    // The study's own paths are the study's; those of the command line are where one stands.
    let run = call(&study, "a", &["run", "--with", "gen.files=given"]);
    assert!(run.status.success() && study.read("out/count/n") == "1\n", "{}", said(&run));
    // Mistakes have their place, from here.
    study.write("pipeline.yaml", "name: [");
    assert!(stderr(&call(&study, "a", &["check"])).contains("error: ../pipeline.yaml:"));
    // In its own folder nothing needs to be said.
    study.write("pipeline.yaml", TOY);
    assert_eq!(stderr(&call(&study, ".", &["plan"])), "");
}

#[test]
fn a_study_that_is_named_or_nearer_wins() {
    let study = Study::new(TOY);
    study.write("a/pipeline.yaml", &TOY.replace("toy", "near"));
    study.program("a/gen", crate::study::GEN);
    study.write("a/b/other.yaml", &TOY.replace("toy", "other").replace("stages:", "root: ../..\nstages:"));
    let name = |folder: &str, arguments: &[&str]| {
        let check = call(&study, folder, &[&["check", "--json"], arguments].concat());
        let json: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap_or_default();
        (json["study"].as_str().unwrap_or_default().to_string(), stderr(&check))
    };
    assert_eq!(name("a/b", &[]), ("near".into(), "the study is ../pipeline.yaml\n".into()));
    assert_eq!(name("a/b", &["--file", "other.yaml"]), ("other".into(), String::new()));
    let named = name("a/b", &["--file", "pipeline.yaml"]);
    assert_eq!(
        named,
        (
            String::new(),
            "error: no study at pipeline.yaml; name one with --file, or begin one with `pipeline init`\n"
                .into()
        )
    );
    // A folder of that name is no study; `init` makes one here, whatever is above.
    fs::create_dir_all(study.path("c/d/pipeline.yaml")).unwrap();
    assert_eq!(name("c/d", &[]), ("toy".into(), "the study is ../../pipeline.yaml\n".into()));
    fs::create_dir(study.path("c/e")).unwrap();
    let init = call(&study, "c/e", &["init"]);
    assert!(init.status.success() && study.exists("c/e/pipeline.yaml"), "{}", said(&init));
}

#[test]
fn without_any_study_it_says_so() {
    let empty = tempfile::tempdir().unwrap();
    let output = Study::new(TOY).command(&["run"]).current_dir(empty.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "error: no study at pipeline.yaml; name one with --file, or begin one with `pipeline init`\n"
    );
}

#[test]
fn the_study_of_somebody_else_above_is_not_run() {
    // SAFETY: asks the kernel who we are.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    let study = Study::new(TOY);
    fs::create_dir(study.path("mine")).unwrap();
    for path in ["mine", "."] {
        std::os::unix::fs::chown(study.path(path), Some(4242), None).unwrap();
    }
    std::os::unix::fs::chown(study.path("pipeline.yaml"), Some(4343), None).unwrap();
    let as_user = |arguments: &[&str]| {
        let mut command = study.command(arguments);
        command.current_dir(study.path("mine")).uid(4242).output().unwrap()
    };
    let run = as_user(&["run"]);
    assert_eq!(run.status.code(), Some(2), "{}", said(&run));
    let expected = "error: ../pipeline.yaml belongs to another user, and what it names would run as you; name it with --file if that is meant\n";
    assert_eq!(stderr(&run), expected);
    assert!(!study.exists("ran") && !study.exists(".pipeline"));
}

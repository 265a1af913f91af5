//! A study in a folder where nothing can be written, and one that has no store.

use crate::study::{Study, TOY, said, stderr};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Output;

/// Nobody's number.
const STRANGER: u32 = 4242;

fn is_root() -> bool {
    // SAFETY: asks the kernel who we are.
    unsafe { libc::geteuid() == 0 }
}

/// Calls the runner as somebody who may only read in the study's folder.
fn reading(study: &Study, arguments: &[&str]) -> Output {
    let mut command = study.command(arguments);
    let folders = [study.dir.path().to_path_buf(), study.path(".pipeline")];
    let folders: Vec<_> = folders.iter().filter(|folder| folder.is_dir()).collect();
    let mode = |mode: u32| {
        folders
            .iter()
            .for_each(|folder| fs::set_permissions(folder, PermissionsExt::from_mode(mode)).unwrap());
    };
    mode(0o555);
    if is_root() {
        // For root no folder is closed.
        command.uid(STRANGER);
    }
    let output = command.output().unwrap();
    mode(0o755);
    output
}

/// All that is in a study's folder.
fn names(study: &Study) -> Vec<String> {
    let entries = fs::read_dir(study.dir.path()).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_only_reads_works_where_nothing_can_be_written() {
    let study = Study::new(TOY);
    study.write("given/0", "x");
    let before = names(&study);
    let tells = |arguments: &[&str], text: &str| {
        let output = reading(&study, arguments);
        assert!(output.status.success() && said(&output).contains(text), "{arguments:?}: {}", said(&output));
        assert!(!stderr(&output).contains("ermission denied"), "{arguments:?}: {}", said(&output));
    };
    tells(&["check"], "3 stages, no mistake found");
    tells(&["plan"], "it never ran");
    tells(&["plan", "--with", "gen.files=given"], "replaced");
    tells(&["plan", "--cost"], "count");
    tells(&["why", "gen"], "");
    tells(&["runs"], "nothing has run yet");
    tells(&["graph"], "gen");
    tells(&["table"], "");
    let mistake = reading(&study, &["plan", "--set", "gen.sise=1"]);
    assert!(stderr(&mistake).contains("did you mean `size`?"), "{}", said(&mistake));
    // What writes says so on one line, and where.
    for arguments in [&["run"][..], &["run", "--with", "gen.files=given"], &["accept", "gen"]] {
        let output = reading(&study, arguments);
        let text = stderr(&output);
        assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{arguments:?}: {text}");
        assert!(
            text.starts_with("error: nothing can be written to ") && text.contains(".pipeline: "),
            "{text}"
        );
    }
    assert_eq!(names(&study), before);
    // With a store it is read.
    study.run(&[]);
    tells(&["plan"], "cached");
    tells(&["verify"], "0 damaged");
    tells(&["table", "--runs"], "");
    tells(&["log", "count"], "count.log");
    tells(&["plan", "--set", "gen.size=7"], "`size` 5 → 7");
}

#[test]
fn where_there_is_no_store_that_is_said() {
    let study = Study::new(TOY);
    let verify = study.call(&["verify"]);
    let text = stderr(&verify);
    assert_eq!((verify.status.code(), text.lines().count()), (Some(2), 1), "{}", said(&verify));
    assert!(
        text.contains("there is no store at ") && text.contains(".pipeline: nothing has run here yet"),
        "{text}"
    );
    let gc = study.call(&["gc"]);
    assert!(gc.status.success() && said(&gc).contains("there is no store at "), "{}", said(&gc));
    let json = study.call(&["gc", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["removed"], 0);
    for arguments in [&["runs"][..], &["log", "gen"], &["table"], &["diff", "a", "b"]] {
        study.call(arguments);
    }
    assert!(!study.exists(".pipeline/results") && !study.exists(".pipeline/locks"));
}

/// Only where nothing stands there is none.
#[test]
fn a_store_that_cannot_be_read_is_not_taken_for_none() {
    let study = Study::new(TOY);
    fs::create_dir_all(study.path(".pipeline/format")).unwrap();
    for command in ["verify", "gc", "runs", "plan"] {
        let output = study.command(&[command]).output().unwrap();
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{command}: {told}");
        assert!(told.starts_with("error: reading ") && told.contains(".pipeline/format: "), "{told}");
    }
}

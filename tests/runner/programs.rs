//! Which program runs, under which name, and what is noticed when it changes.

use crate::study::{Study, said, stderr};
use std::fs;
use std::os::unix::fs::symlink;

/// A program that says by which path it was called, as Python and programs of many names look.
const CALLED: &str = "#!/bin/sh\necho \"$0\" > \"$1\"\n";

fn called(name: &str) -> Study {
    Study::new(&format!(
        "name: called\nstages:\n  a:\n    command: {name} ${{outputs.x}}\n    outputs: [x]\n"
    ))
}

/// Runs the study with its folder `v/bin` before everything on `PATH`.
fn run_with_path(study: &Study) -> std::process::Output {
    let path = format!("{}:{}", study.path("v/bin").display(), std::env::var("PATH").unwrap());
    study.command(&["run"]).env("PATH", path).output().unwrap()
}

#[test]
fn a_program_is_called_by_the_path_that_was_found() {
    for name in ["tool", "v/bin/tool"] {
        let study = called(name);
        study.program("real/engine", CALLED);
        fs::create_dir_all(study.path("v/bin")).unwrap();
        symlink("../../real/engine", study.path("v/bin/tool")).unwrap();
        let output = run_with_path(&study);
        assert!(output.status.success(), "{}", said(&output));
        let said = study.read("out/a/x");
        assert_eq!(said.trim(), study.path("v/bin/tool").display().to_string());
        // The content is that of the file behind the link.
        study.program("real/engine", &(CALLED.to_string() + "# other\n"));
        let output = run_with_path(&study);
        assert!(stderr(&output).contains(&format!("a: program `{name}` changed")), "{}", stderr(&output));
    }
}

#[test]
fn a_virtual_environment_is_in_force_and_in_the_key() {
    let study = called("tool");
    study.program("real/engine", CALLED);
    for venv in ["v", "w"] {
        fs::create_dir_all(study.path(venv).join("bin")).unwrap();
        symlink("../../real/engine", study.path(venv).join("bin/tool")).unwrap();
        study.write(&format!("{venv}/pyvenv.cfg"), "home = /usr/bin\n");
    }
    let run = |venv: &str| {
        let path = format!("{}:{}", study.path(venv).join("bin").display(), std::env::var("PATH").unwrap());
        let output = study.command(&["run"]).env("PATH", path).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        stderr(&output)
    };
    run("v");
    assert!(run("w").contains("a: the virtual environment `./v` → `./w`"));
    assert!(study.read("out/a/x").ends_with("w/bin/tool\n"));
    // Each is a hit again.
    assert_eq!(run("v"), "");
    assert!(study.read("out/a/x").ends_with("v/bin/tool\n"));
}

#[test]
fn a_file_on_the_path_that_is_no_program_is_passed_over() {
    let study = called("tool");
    study.write("v/bin/tool", "no program");
    study.program("w/tool", CALLED);
    let path = format!("{}:{}:{}", study.path("v/bin").display(), study.path("w").display(), env!("PATH"));
    let output = study.command(&["run"]).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(study.read("out/a/x").ends_with("w/tool\n"));
}

//! Which program runs, under which name, and what is noticed when it changes.

use crate::study::{GEN, Study, said, stderr, until};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

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

/// The runner at work, with what it says.
fn begin(study: &Study, arguments: &[&str]) -> std::process::Child {
    let log = fs::File::create(study.path("log")).unwrap();
    let _ = fs::remove_file(study.path("up"));
    let runner = study.command(arguments).stdout(std::process::Stdio::null()).stderr(log).spawn().unwrap();
    until("the stage's start", || study.exists("up"));
    runner
}

const WAIT: &str = "touch up; while [ ! -e go ]; do sleep 0.02; done";

#[test]
fn a_program_edited_while_its_stage_waits_is_recorded_as_what_ran() {
    let study = Study::new(&format!(
        "name: midrun\nstages:\n  train:\n    command: sh -c '{WAIT}; echo w > $1' -- ${{outputs.o}}\n    outputs: [o]\n  \
         evaluate:\n    command: ./evaluate.sh ${{inputs.i}} ${{outputs.o}}\n    inputs: {{i: train.o}}\n    outputs: [o]\n"
    ));
    let program = |by: &str| study.program("evaluate.sh", &format!("#!/bin/sh\necho by {by} > $2\n"));
    program("OLD");
    let mut runner = begin(&study, &["run"]);
    program("NEW");
    study.write("go", "");
    assert!(runner.wait().unwrap().success(), "{}", study.read("log"));
    assert_eq!(study.read("out/evaluate/o"), "by NEW\n");
    let line = "evaluate: `./evaluate.sh` changed since the run began; going on with what is there now\n";
    assert!(study.read("log").contains(line), "{}", study.read("log"));
    program("OLD");
    study.run(&[]);
    assert_eq!(study.read("out/evaluate/o"), "by OLD\n");
    program("NEW");
    assert!(!stderr(&study.call(&["run"])).contains("it never ran"));
    assert_eq!(study.read("out/evaluate/o"), "by NEW\n");
}

/// One stage that reads a script's neighbour `conf`, which its command names.
fn configured(more: &str) -> Study {
    let study = Study::new(&format!(
        "name: one\nstages:\n  a:\n    command: sh script.sh ${{outputs.x}} conf\n    outputs: [x]\n{more}"
    ));
    study.write("script.sh", &format!("{WAIT}; cat conf > $1"));
    study.write("conf", "A\n");
    study
}

#[test]
fn what_is_written_while_a_stage_runs_makes_its_outputs_unkept() {
    for (edits, back) in [(vec!["B\n"], false), (vec!["B\n", "A\n"], true)] {
        let study = configured("");
        let mut runner = begin(&study, &["run"]);
        edits.iter().for_each(|text| study.write("conf", text));
        study.write("go", "");
        assert_eq!(runner.wait().unwrap().code(), Some(1));
        let log = study.read("log");
        assert!(log.contains("a: failed: `conf`") && log.contains("changed while it ran"), "{log}");
        assert_eq!(log.contains("put back"), back, "{log}");
        assert!(!study.exists("out/a/x"));
        study.run(&[]);
        assert_eq!(study.read("out/a/x"), edits.last().unwrap().to_string());
    }
}

#[test]
fn a_new_link_or_mode_is_no_change() {
    use std::os::unix::fs::PermissionsExt;
    let study = configured("    inputs: {}\n");
    let mut runner = begin(&study, &["run"]);
    fs::hard_link(study.path("conf"), study.path("backup")).unwrap();
    fs::set_permissions(study.path("script.sh"), PermissionsExt::from_mode(0o664)).unwrap();
    study.write("go", "");
    assert!(runner.wait().unwrap().success(), "{}", study.read("log"));
}

#[test]
fn what_changed_between_two_tries_is_another_action() {
    let study = configured("    retries: 3\n");
    study.write(
        "script.sh",
        "[ -e tried ] && { cat conf > $1; exit 0; }; touch tried; echo B > conf; exit 75",
    );
    let output = study.call(&["run"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        stderr(&output).contains("a: `conf` changed since the run began; going on with what is there now\n"),
        "{}",
        stderr(&output)
    );
    assert_eq!(study.read("out/a/x"), "B\n");
    // It is recorded as what it is: B is a hit, and A is not.
    assert_eq!(stderr(&study.call(&["run"])), "");
    study.write("conf", "A\n");
    study.run(&[]);
    assert_eq!(study.read("out/a/x"), "A\n");
}

#[test]
fn queued_variants_take_what_is_there_when_they_start() {
    let study = Study::new(
        "name: queued\nmatrix: {train.lr: [1, 2, 3]}\nstages:\n  train:\n    command: sh script.sh ${outputs.o} ${params.lr} conf ${inputs.data}\n    \
         inputs: {data: data}\n    params: {lr: 0}\n    outputs: [o]\n",
    );
    study.write("conf", "c1\n");
    study.write("data/x", "d1\n");
    study.write("script.sh", &format!("{WAIT}; cat $3 $4/x > $1"));
    let mut runner = begin(&study, &["run", "--variant", "*", "--jobs", "1", "--keep-going"]);
    study.write("conf", "c2\n");
    study.write("data/x", "d2\n");
    study.write("go", "");
    assert_eq!(runner.wait().unwrap().code(), Some(1));
    let log = study.read("log");
    assert!(
        log.contains("`conf`, its input `data` (x) changed while it ran; its outputs are not kept"),
        "{log}"
    );
    let line = "`conf`, its input `data` changed since the run began; going on with what is there now";
    assert_eq!(log.matches(line).count(), 2, "{log}");
    for (conf, data) in [("c1\n", "d1\n"), ("c2\n", "d2\n"), ("c1\n", "d2\n")] {
        study.write("conf", conf);
        study.write("data/x", data);
        let output = study.call(&["run", "--variant", "*"]);
        assert!(output.status.success(), "{}", said(&output));
        let variants: Vec<_> = fs::read_dir(study.path("out")).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(variants.len(), 3);
        for variant in variants {
            let made = fs::read_to_string(variant.join("train/o")).unwrap();
            assert_eq!(made, format!("{conf}{data}"), "{}", variant.display());
        }
    }
}

#[test]
fn a_stage_program_built_anew_during_the_run_is_asked_anew() {
    let study = Study::new(&format!(
        "name: built\nstages:\n  a:\n    command: sh -c '{WAIT}; echo > $1' -- ${{outputs.x}}\n    outputs: [x]\n  \
         b:\n    run: ./gen\n    outputs: [files]\n"
    ));
    let mut runner = begin(&study, &["run", "--jobs", "1"]);
    study.program("gen", &GEN.replace("\"default\": 3", "\"default\": 4").replace("size=3", "size=4"));
    study.write("go", "");
    assert!(runner.wait().unwrap().success(), "{}", study.read("log"));
    assert!(study.read("log").contains("b: `./gen` changed since the run began"), "{}", study.read("log"));
    assert_eq!(fs::read_dir(study.path("out/b/files")).unwrap().count(), 4);
    study.program("gen", GEN);
    study.run(&[]);
    assert_eq!(fs::read_dir(study.path("out/b/files")).unwrap().count(), 3);
}

#[test]
fn a_mapped_stage_is_made_of_one_state_of_its_script() {
    let study = Study::new(
        "name: mapped\nstages:\n  a:\n    command: sh -c 'mkdir $1; for i in 1 2 3; do echo $i > $1/$i; done' -- ${outputs.x}\n    \
         outputs: [x]\n  b:\n    command: sh script.sh ${inputs.e} ${outputs.y}\n    inputs: {e: a.x}\n    each: e\n    outputs: [y]\n    retries: 1\n",
    );
    // The second entry edits the script and asks to be run again; the first is done by then.
    let edit = "echo 'echo new $(cat $1) > $2' > script.new; mv script.new script.sh; exit 75";
    study.write("script.sh", &format!("[ $(cat $1) = 2 ] && {{ {edit}; }}; echo old > $2"));
    let output = study.call(&["run", "--jobs", "1"]);
    assert!(output.status.success(), "{}", said(&output));
    for i in 1..4 {
        assert_eq!(study.read(&format!("out/b/y/{i}")), format!("new {i}\n"), "{}", said(&output));
    }
}

#[test]
fn a_runner_that_is_replaced_while_it_runs_goes_on() {
    let study = Study::new(
        "name: long
stages:
  first: {command: \"sh -c 'echo > began; until [ -e go ]; do sleep 0.05; done; echo 1 > $1' -- ${outputs.out}\", outputs: [out]}
  second: {command: \"cp ${inputs.out} ${outputs.out}\", inputs: {out: first.out}, outputs: [out]}
  ranks: {command: \"sh -c 'echo > $1' -- ${outputs.out}\", inputs: {out: second.out}, outputs: [out], processes: 2}
",
    );
    let runner = study.path("runner");
    study.copy_runner("runner");
    let mut run = Command::new(&runner);
    run.arg("run")
        .current_dir(study.dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let run = run.spawn().unwrap();
    until("the first stage", || study.exists("began"));
    // As an installer does it; what comes is no runner at all.
    study.program("newer", "#!/bin/sh\nexit 1\n");
    fs::rename(study.path("newer"), &runner).unwrap();
    study.write("go", "");
    let ended = run.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", stderr(&ended));
    assert!(study.exists("out/ranks/out"));
}

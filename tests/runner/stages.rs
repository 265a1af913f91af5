//! `pipeline stage`, and stage programs in a folder of their own: with a runner that stands in an empty prefix.

use crate::study::{GEN, Study, said, stderr, until};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A folder with nothing but `prefix/bin/pipeline`, an empty home, and an empty folder to stand in.
fn prefix() -> Study {
    let study = Study::new("");
    fs::remove_file(study.path("pipeline.yaml")).unwrap();
    fs::remove_file(study.path("gen")).unwrap();
    for folder in ["prefix/bin", "home", "here"] {
        fs::create_dir_all(study.path(folder)).unwrap();
    }
    study.copy_runner("prefix/bin/pipeline");
    study
}

/// The runner of the prefix, with nothing on `PATH` but the system's own.
fn runner(study: &Study, arguments: &[&str]) -> Command {
    let mut command = Command::new(study.path("prefix/bin/pipeline"));
    command.args(arguments).current_dir(study.path("here")).stdin(Stdio::null()).env_clear();
    command.env("HOME", study.path("home")).env("PATH", "/usr/bin:/bin");
    command
}

fn call(study: &Study, arguments: &[&str]) -> Output {
    runner(study, arguments).output().unwrap()
}

const SAY: &str = "#!/bin/sh\necho \"$0\"; for word; do echo \"[$word]\"; done\n";

#[test]
fn everything_behind_the_name_is_the_programs() {
    let study = prefix();
    study.program("prefix/libexec/pipeline/train", SAY);
    let words = ["--help", "--json", "--file", "x", "--", "-h", "a b", ""];
    let output = call(&study, &[&["stage", "train"][..], &words].concat());
    let program = study.path("prefix/libexec/pipeline/train").canonicalize().unwrap();
    let expected =
        words.iter().fold(format!("{}\n", program.display()), |text, word| text + &format!("[{word}]\n"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", said(&output));
    assert!(output.status.success());
    // A link to the runner finds the same.
    std::os::unix::fs::symlink("../prefix/bin/pipeline", study.path("home/p")).unwrap();
    let mut linked = Command::new(study.path("home/p"));
    let linked =
        linked.args(["stage", "train"]).current_dir(study.path("here")).env_clear().output().unwrap();
    assert_eq!(String::from_utf8_lossy(&linked.stdout), format!("{}\n", program.display()));
}

#[test]
fn a_program_that_lacks_its_library_is_told_with_what_fetches_it() {
    let study = prefix();
    let lacks = "#!/bin/sh\necho \"$0: error while loading shared libraries: libtorch_cpu.so: cannot open shared object file: No such file or directory\" >&2; exit 127\n";
    study.program("prefix/libexec/pipeline/train", lacks);
    study.program("prefix/libexec/fetch-libtorch", "#!/bin/sh\n");
    study.write("here/pipeline.yaml", "name: x\nstages:\n  train: {run: train, outputs: [checkpoints]}\n");
    let root = study.path("prefix").canonicalize().unwrap();
    let why =
        format!("for libtorch_cpu.so is not there; fetch it by {}/libexec/fetch-libtorch", root.display());
    for command in ["check", "plan", "run"] {
        let output = call(&study, &[command]);
        let expected = format!(
            "error: pipeline.yaml:3: {}/libexec/pipeline/train cannot be started, {why}\n",
            root.display()
        );
        assert_eq!((output.status.code(), stderr(&output)), (Some(2), expected));
    }
    let list = said(&call(&study, &["stage", "--list"]));
    assert!(list.contains(&format!("train  cannot be started, {why}\n")), "{list}");
    // Other libraries are no business of ours.
    study.program("prefix/libexec/pipeline/train", &lacks.replace("libtorch_cpu", "libm"));
    let output = call(&study, &["check"]);
    assert!(
        stderr(&output)
            .ends_with("libm.so is not there; install it, or name its folder in LD_LIBRARY_PATH\n"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_program_takes_the_runners_place() {
    let study = prefix();
    study.program("prefix/libexec/pipeline/train", "#!/bin/sh\ncat; echo $$; exit 75\n");
    study.write("words", "from standard input\n");
    let mut child = runner(&study, &["stage", "train"])
        .stdin(fs::File::open(study.path("words")).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let process = child.id();
    let mut text = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut text).unwrap();
    assert_eq!(text, format!("from standard input\n{process}\n"));
    assert_eq!(child.wait().unwrap().code(), Some(75));

    // A signal to the runner's process is the program's.
    study.program("prefix/libexec/pipeline/wait", "#!/bin/sh\ntouch up; exec sleep 60\n");
    let mut child = runner(&study, &["stage", "wait"]).spawn().unwrap();
    until("the program's start", || study.exists("here/up"));
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn a_name_that_is_not_found_is_told_with_the_way_out() {
    let study = prefix();
    // What is on PATH is not a stage program, nor is what stands beside an installed runner.
    study.program("prefix/bin/train", SAY);
    let folder = study.path("prefix/libexec/pipeline").canonicalize();
    assert!(folder.is_err());
    for name in ["train", "ls"] {
        let output = call(&study, &["stage", name]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let text = stderr(&output);
        assert!(text.starts_with(&format!("error: no stage program `{name}`; looked in ")), "{text}");
        assert!(text.contains("prefix/libexec/pipeline"), "{text}");
        // The archive of the runner alone has none at all.
        let archive = format!("`switch-dit-{}-x86_64-linux.tar.gz`", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&archive) && text.lines().count() == 1, "{text}");
        assert!(said(&call(&study, &["stage", "--list"])).contains(&archive));
        let stage = "name: own\nstages:\n  a:\n    run: train\n    outputs: [files]\n";
        study.write("here/pipeline.yaml", stage);
        let output = call(&study, &["run"]);
        assert_eq!(
            (output.status.code(), stderr(&output).lines().count()),
            (Some(2), 1),
            "{}",
            said(&output)
        );
        assert!(stderr(&output).contains(&archive), "{}", said(&output));
        fs::remove_file(study.path("here/pipeline.yaml")).unwrap();
    }
    study.program("prefix/libexec/pipeline/sample", SAY);
    let text = stderr(&call(&study, &["stage", "sampel"]));
    assert!(text.contains("did you mean `sample`?") && !text.contains("tar.gz"), "{text}");
    // Neither a path nor the runner's parent is looked into.
    for name in ["./sample", "../../bin/train", ""] {
        assert_eq!(call(&study, &["stage", name]).status.code(), Some(2), "{name}");
    }
    assert_eq!(call(&study, &["stage"]).status.code(), Some(2));
}

#[test]
fn the_studys_own_come_before_those_of_the_variable_and_the_installation() {
    let study = prefix();
    let places = ["here/programs", "other", "prefix/libexec/pipeline"];
    for place in places {
        study.program(&format!("{place}/gen"), SAY);
    }
    study.write("here/pipeline.yaml", "name: own\nbuild: {command: 'true', sources: [], programs: programs}\nstages:\n  a:\n    run: gen\n    outputs: [files]\n");
    let found = |study: &Study| {
        let mut command = runner(study, &["stage", "gen"]);
        let output = command.env("PIPELINE_STAGES", study.path("other")).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    for place in places {
        let said = found(&study);
        assert!(Path::new(said.trim()).ends_with(format!("{place}/gen")), "{said}");
        fs::remove_file(study.path(place).join("gen")).unwrap();
    }
    // A study that cannot be read is in nobody's way.
    study.program("prefix/libexec/pipeline/gen", SAY);
    study.write("here/pipeline.yaml", "name: own\nstegas: {}\n");
    let output = call(&study, &["stage", "gen"]);
    assert!(output.status.success());
    assert!(stderr(&output).starts_with("warning: "), "{}", stderr(&output));
    let output = call(&study, &["--file", "pipeline.yaml", "stage", "gen"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn the_list_has_what_describes_itself_and_the_folders_in_order() {
    let study = prefix();
    study.program("prefix/libexec/pipeline/gen", GEN);
    study.program("prefix/libexec/pipeline/mute", "#!/bin/sh\nexit 3\n");
    study.program("prefix/libexec/pipeline/lib.so", "#!/bin/sh\ntouch asked\n");
    let output = call(&study, &["stage", "--list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("gen  Makes files\n\nlooked for in this order:\n"), "{text}");
    assert!(text.contains("prefix/libexec/pipeline"), "{text}");
    assert!(!study.exists("here/asked"));
    let output = call(&study, &["stage", "--list", "--json"]);
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list["programs"][0]["name"], "gen");
    assert_eq!(list["programs"].as_array().unwrap().len(), 1);
    assert_eq!(list["folders"][0]["from"], "installed with the runner");
    // Of the study's build only what its stages name is asked.
    study.program("here/programs/deploy", "#!/bin/sh\ntouch asked\n");
    study.write("here/pipeline.yaml", "name: own\nbuild: {command: 'true', sources: [], programs: programs}\nstages:\n  a:\n    run: gen\n    outputs: [files]\n");
    let text = String::from_utf8(call(&study, &["stage", "--list"]).stdout).unwrap();
    assert!(text.contains("  the study's build"), "{text}");
    assert!(!study.exists("here/asked"));
}

#[test]
fn a_study_finds_installed_programs_by_their_content() {
    let study = prefix();
    study.program("prefix/libexec/pipeline/gen", GEN);
    study.write(
        "here/pipeline.yaml",
        "name: toy\nstages:\n  gen:\n    run: gen\n    params: {size: 5}\n    outputs: [files]\n",
    );
    let run = || {
        let output = call(&study, &["run"]);
        assert!(output.status.success(), "{}", said(&output));
        study.read("here/ran").lines().count()
    };
    assert_eq!(run(), 1);
    // The same program from elsewhere is the same: only its content is in the key.
    study.program("here/bin/gen", GEN);
    fs::remove_dir_all(study.path("prefix/libexec")).unwrap();
    let output = call(&study, &["run"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        stderr(&output).contains("no program `gen` on PATH or among the stage programs"),
        "{}",
        stderr(&output)
    );
    let moved = runner(&study, &["run"]).env("PIPELINE_STAGES", study.path("here/bin")).output().unwrap();
    assert!(moved.status.success(), "{}", said(&moved));
    assert_eq!(study.read("here/ran").lines().count(), 1);
    study.program("prefix/libexec/pipeline/gen", &format!("{GEN}# other\n"));
    assert_eq!(run(), 2);
}

#[test]
fn a_build_that_makes_some_leaves_the_others_to_the_installation() {
    let study = prefix();
    study.program("prefix/libexec/pipeline/gen", GEN);
    study.program("here/own", &GEN.replace("\"gen\"", "\"own\"").replace("echo gen", "echo own"));
    let build = "build: {command: sh -c 'echo built >> ran; mkdir -p programs; cp own programs', sources: [own], programs: programs}";
    let stage = |name: &str| format!("  {name}:\n    run: {name}\n    outputs: [files]\n");
    study.write(
        "here/pipeline.yaml",
        &format!("name: both\n{build}\nstages:\n{}{}", stage("gen"), stage("own")),
    );
    let ran = || {
        let before = study.read("here/ran").lines().count();
        let output = call(&study, &["run", "--jobs", "1"]);
        assert!(output.status.success(), "{}", said(&output));
        study.read("here/ran").lines().skip(before).map(String::from).collect::<Vec<_>>()
    };
    let mut first = ran();
    first.sort();
    assert_eq!(first, ["built", "gen", "own"]);
    assert!(ran().is_empty());
    // Once the build makes it too, that one counts.
    study.write("here/own", &(study.read("here/own") + "# other\n"));
    assert_eq!(ran(), ["built", "own"]);
    fs::remove_dir_all(study.path("here/programs")).unwrap();
    assert_eq!(ran(), ["built"]);
}

//! Programs that judge their parameters before any input exists, and say which of them are in force.

use crate::study::{Study, said, stderr};

/// A program with a size that decides the number of its parts, and a spread that only several parts have.
const NET: &str = r#"#!/bin/sh
if [ "$1" = --describe ]; then cat <<'J'
{"name": "net", "about": "Learns.", "check": true, "arguments": [
 {"name": "size", "role": "param", "type": "choice", "values": ["one", "two"], "required": false, "default": "one", "help": "Size."},
 {"name": "parts", "role": "param", "type": "integer", "min": 1, "required": false, "help": "1 for one, 2 for two."},
 {"name": "spread", "role": "param", "type": "number", "required": false, "default": 0.5, "help": "Of several parts."},
 {"name": "out", "role": "output", "type": "path", "required": true, "help": "File."}]}
J
exit 0; fi
check=; size=one; spread=0.5; words="$*"
[ "$1" = --check ] && { check=1; shift; echo "$words" >> asked; }
while [ $# -gt 0 ]; do case $1 in --size) size=$2;; --parts) parts=$2;; --spread) spread=$2;; --out) out=$2;; esac; shift 2; done
[ -n "$parts" ] || { [ $size = two ] && parts=2 || parts=1; }
[ $parts = 3 ] && { echo "error: --parts 3: no network has three" >&2; exit 2; }
[ $parts -gt 1 ] && more=", \"spread\": \"$spread\""
[ -n "$check" ] && { echo "{\"size\": \"$size\", \"parts\": \"$parts\"$more$EXTRA}"; exit 0; }
echo net >> ran; echo $size $parts > $out
"#;

fn net() -> Study {
    let study = Study::new(
        "name: nets
variants:
  written: {stages: {train: {params: {parts: 1}}}}
  switched-off: {stages: {train: {params: {spread: 0.9}}}}
  other: {stages: {train: {params: {parts: 2}}}}
  same-other: {stages: {train: {params: {parts: 2, spread: 5e-1}}}}
stages:
  train: {run: ./net, outputs: [out]}
",
    );
    study.program("net", NET);
    study
}

#[test]
fn equal_work_is_one_action_whatever_decides_its_parameters() {
    let study = net();
    assert_eq!(study.run(&[]), ["net"]);
    // Once for each way of writing, then never again.
    assert_eq!(study.run(&["--variant", "*"]), ["net"]);
    assert_eq!(study.read("out/other/train/out"), "one 2\n");
    assert_eq!(study.read("out/switched-off/train/out"), "one 1\n");
    let asked = study.read("asked").lines().count();
    assert_eq!(asked, 5);
    assert!(study.run(&["--variant", "*"]).is_empty());
    assert_eq!(study.read("asked").lines().count(), asked);
    // What is in force is what a person is told of.
    let why = said(&study.call(&["why", "train", "--set", "train.parts=4"]));
    assert!(why.contains("`parts` 1 → 4") && why.contains("`spread` is new: 0.5"), "{why}");
    // Another program is asked again.
    study.program(
        "net",
        &NET.replace("[ $parts = 3 ]", "[ $parts = 1 ]")
            .replace("--parts 3: no network has three", "one is none"),
    );
    let check = study.call(&["check"]);
    assert_eq!(
        (check.status.code(), stderr(&check)),
        (Some(2), "error: pipeline.yaml:8: stage train: net says: one is none\n".into())
    );
}

#[test]
fn what_a_program_has_against_its_parameters_is_said_before_anything_runs() {
    let study = net();
    for (arguments, place) in [
        (vec!["check", "--set", "train.parts=3"], "--set train.parts=3"),
        (vec!["plan", "--set", "train.parts=3"], "--set train.parts=3"),
        (vec!["run", "--set", "train.parts=3"], "--set train.parts=3"),
    ] {
        let output = study.call(&arguments);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let expected = format!("error: {place}: stage train: net says: --parts 3: no network has three\n");
        assert_eq!(stderr(&output), expected);
    }
    study.write(
        "pipeline.yaml",
        &study
            .read("pipeline.yaml")
            .replace("run: ./net,", "run: ./net, params: {size: two,\n      parts: 3},"),
    );
    let expected = "error: pipeline.yaml:9: stage train: net says: --parts 3: no network has three\n";
    assert_eq!(stderr(&study.call(&["check"])), expected);
    assert!(!study.exists("ran"));
}

#[test]
fn a_program_judges_for_as_many_processes_as_there_will_be() {
    let study = net();
    let odd = "[ $((${WORLD_SIZE:-1} % 2)) = 1 ] && [ ${WORLD_SIZE:-1} -gt 1 ] && { echo \"error: --size does not divide\" >&2; exit 2; }\n[ $parts = 3 ]";
    study.program("net", &NET.replace("[ $parts = 3 ]", odd));
    for (processes, code) in [("1", 0), ("2", 0), ("3", 2), ("2x2", 0), ("1x3", 2)] {
        let check = study.call(&["check", "--set", &format!("train.processes={processes}")]);
        assert_eq!(check.status.code(), Some(code), "{processes}: {}", said(&check));
        assert!(
            code == 0 || stderr(&check).contains("stage train: net says: --size does not divide"),
            "{}",
            said(&check)
        );
    }
}

#[test]
fn an_answer_that_is_none_is_refused() {
    for (answer, why) in [
        ("echo no", "its answer to --check is none"),
        ("echo '{\"sise\": \"one\"}'", "its answer to --check has `sise`, which is no parameter"),
        ("echo '{\"out\": \"x\"}'", "its answer to --check has `out`, which is no parameter"),
        ("yes", "it says more than 1 MiB"),
        ("exit 1", "it failed and said nothing"),
    ] {
        let study = net();
        study.program("net", &NET.replace("check=1; shift;", &format!("{answer}; exit $?;")));
        let check = study.call(&["check"]);
        assert_eq!(check.status.code(), Some(2), "{}", said(&check));
        assert!(stderr(&check).contains(&format!("stage train: net says: {why}")), "{}", said(&check));
    }
}

#[test]
fn gpus_that_are_not_there_are_told_of_before_a_run() {
    let study = Study::new(
        "name: g\nstages:\n  a:\n    command: touch ${outputs.x}\n    outputs: [x]\n    resources: {gpus: 3}\n  b: {command: 'touch ${outputs.x}', outputs: [x]}\n",
    );
    let call = |command: &str| study.command(&[command]).env("CUDA_VISIBLE_DEVICES", "0,1").output().unwrap();
    for command in ["check", "plan"] {
        let output = call(command);
        let expected = "warning: pipeline.yaml:3: stage a asks for 3 GPUs; this machine has 2\n";
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), expected.into()), "{command}");
    }
    assert_eq!(call("run").status.code(), Some(2));
}

/// A program that looks at its weights, where they are there, and at where it is to compute.
const LOOKS: &str = r#"#!/bin/sh
if [ "$1" = --describe ]; then cat <<'J'
{"name": "looks", "about": "Looks.", "check": true, "arguments": [
 {"name": "weights", "role": "input", "type": "path", "required": true, "judged": true, "help": "File."},
 {"name": "pictures", "role": "input", "type": "path", "required": false, "help": "Folder."},
 {"name": "size", "role": "param", "type": "integer", "required": false, "default": 8, "help": "Size."},
 {"name": "device", "role": "tuning", "type": "text", "required": false, "judged": true, "default": "auto", "help": "Where."},
 {"name": "threads", "role": "tuning", "type": "integer", "required": false, "default": 1, "help": "Threads."},
 {"name": "out", "role": "output", "type": "path", "required": true, "help": "File."}]}
J
exit 0; fi
size=8
[ "$1" = --check ] && { check=1; shift; echo "$*" >> asked; }
while [ $# -gt 0 ]; do case $1 in --weights) weights=$2;; --size) size=$2;; --device) device=$2;; --out) out=$2;; esac; shift 2; done
[ -n "$weights" ] && [ $((size % $(cat "$weights"))) != 0 ] && { echo "error: --size $size: use a multiple of $(cat "$weights")" >&2; exit 2; }
[ "$device" = moon ] && { echo "error: --device moon: nobody computes there" >&2; exit 2; }
[ -n "$check" ] && { [ "$device" = far ] && echo "warning: --device far: it is not here" >&2; echo "{\"size\": \"$size\"}"; exit 0; }
echo > "$out"
"#;

fn looks() -> Study {
    let study = Study::new(
        "name: looks
stages:
  make: {command: 'cp four ${outputs.w}', outputs: [w]}
  early:
    run: ./looks
    inputs: {weights: four, pictures: pictures}
    params: {size: 12}
    tuning: {threads: 3}
    outputs: [out]
  late: {run: ./looks, inputs: {weights: make.w}, params: {size: 7}, outputs: [out]}
",
    );
    study.program("looks", LOOKS);
    study.write("four", "4");
    study.write("pictures/a", "");
    study
}

#[test]
fn a_program_looks_at_what_lies_there_already_and_at_where_it_computes() {
    let study = looks();
    let refused = |arguments: &[&str], expected: &str| {
        let output = study.call(arguments);
        assert_eq!((output.status.code(), stderr(&output)), (Some(2), format!("error: {expected}\n")));
    };
    assert!(study.call(&["check"]).status.success());
    // The parameters and what it says that it looks at; another stage's output is not there yet.
    let weights = study.path("four").canonicalize().unwrap();
    let early = format!("--size 12 --weights {}", weights.display());
    assert_eq!(study.read("asked").lines().collect::<Vec<_>>(), [early.as_str(), "--size 7"]);
    refused(
        &["check", "--set", "early.size=10"],
        "--set early.size=10: stage early: looks says: --size 10: use a multiple of 4",
    );
    let moon = "--set late.device=moon: stage late: looks says: --device moon: nobody computes there";
    for command in ["check", "plan", "run"] {
        refused(&[command, "--set", "late.device=moon"], moon);
    }
    // It is asked again where what it looked at is another, and only then.
    let asked = study.read("asked").lines().count();
    assert!(study.call(&["plan"]).status.success());
    assert_eq!(study.read("asked").lines().count(), asked);
    study.write("four", "5");
    refused(&["plan", "early"], "pipeline.yaml:7: stage early: looks says: --size 12: use a multiple of 5");
    assert!(!study.exists("out"));
}

#[test]
fn what_a_program_warns_of_is_said_where_it_would_run_and_asked_again() {
    let study = looks();
    let warned = |arguments: &[&str], wanted: bool| {
        let output = study.call(arguments);
        let warning =
            "warning: --set early.device=far: stage early: looks says: --device far: it is not here\n";
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(stderr(&output).contains(warning), wanted, "{arguments:?}: {}", stderr(&output));
    };
    let far = ["--set", "early.device=far"];
    for command in ["check", "plan", "plan"] {
        warned(&[&[command], &far[..]].concat(), true);
    }
    assert_eq!(study.read("asked").matches("--device far").count(), 3);
    // On a cluster's nodes it may be there.
    study.write(
        "pipeline.yaml",
        &study.read("pipeline.yaml").replace("run: ./looks\n", "run: ./looks\n    engine: slurm\n"),
    );
    warned(&[&["check"], &far[..]].concat(), false);
    study.write("pipeline.yaml", &study.read("pipeline.yaml").replace("    engine: slurm\n", ""));
    warned(&[&["run", "early"], &far[..]].concat(), true);
    // What is made needs no place any more.
    warned(&[&["run", "early"], &far[..]].concat(), false);
    warned(&[&["plan", "early"], &far[..]].concat(), false);
}

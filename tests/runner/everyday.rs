//! What one does every day: logs of variants, pictures, options with a typing error, programs that cannot describe themselves.

use crate::study::{Study, said, stderr};

const VARIANTS: &str = "name: t
vars: {size: 1}
matrix: {a.p: [1, 2]}
stages:
  a:
    command: sh -c 'echo p is $1; true > $2' -- ${params.p} ${outputs.x}
    params: {p: 0}
    outputs: [x]
";

#[test]
fn the_log_of_a_variant_goes_by_every_name_of_it() {
    let study = Study::new(VARIANTS);
    study.run(&["--variant", "*"]);
    for (arguments, p) in [
        (vec!["log", "--variant", "2", "a"], 2),
        (vec!["log", "a@2"], 2),
        (vec!["log", "--variant", "2", "a@2"], 2),
        (vec!["log", "a@1"], 1),
    ] {
        let output = study.call(&arguments);
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("p is {p}\n"), "{}", said(&output));
    }
    assert_eq!(study.call(&["log", "a@3"]).status.code(), Some(2));
}

#[test]
fn a_picture_names_variants() {
    let study = Study::new(VARIANTS);
    let text = said(&study.call(&["graph", "--variant", "*"]));
    assert!(text.contains("    a__1[a@1]\n") && text.contains("    a__2[a@2]\n"), "{text}");
    let text = said(&study.call(&["graph", "--variant", "*", "--format", "dot"]));
    assert!(text.contains("\"a@1\";") && text.contains("\"a@2\";"), "{text}");
}

#[test]
fn a_variable_that_the_study_does_not_have_is_refused() {
    let study = Study::new(VARIANTS);
    let output = study.call(&["plan", "--set", "vars.sise=2"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "error: --set vars.sise=2: the study has no variable `sise`; did you mean `size`?\n"
    );
    assert!(study.call(&["plan", "--set", "vars.size=2"]).status.success());
}

#[test]
fn a_program_that_does_not_describe_itself_in_time_or_measure_is_told_of() {
    let study = Study::new("name: d\nstages:\n  a: {run: ./program, outputs: [files]}\n");
    for (script, why) in [
        ("yes", "it says more than 1 MiB"),
        ("sleep 60", "it does not answer within 10 s"),
        ("sleep 60 & echo {}", "its output does not end"),
        ("echo no >&2; exit 1", "no"),
    ] {
        study.program("program", &format!("#!/bin/sh\n{script}\n"));
        let output = study.call(&["check"]);
        assert_eq!(output.status.code(), Some(2));
        let text = format!("to --describe itself: {why}; use `command:` for other programs\n");
        assert!(stderr(&output).ends_with(&text), "{}", said(&output));
    }
}

#[test]
fn escape_sequences_of_a_log_are_shown() {
    let study = Study::new("name: e\nstages:\n  a: {command: sh script.sh, outputs: [o]}\n");
    study.write(
        "pipeline.yaml",
        "name: e\nstages:\n  a: {command: 'sh script.sh ${outputs.o}', outputs: [o]}\n",
    );
    study.write("script.sh", "printf 'a\\033[2Jb\\n'; exit 1");
    let text = stderr(&study.call(&["run"]));
    assert!(text.contains("  | a\\u{1b}[2Jb\n") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn numbers_agree_with_their_nouns() {
    let study = Study::new(
        "name: n\nstages:\n  a: {command: 'cp -r ${inputs.d} ${outputs.x}', inputs: {d: d}, outputs: [x]}\n",
    );
    for i in 0..5 {
        study.write(&format!("d/{i}"), "x");
    }
    let check = said(&study.call(&["check"]));
    assert!(check.contains("pipeline.yaml: 1 stage, no mistake found\n"), "{check}");
    study.run(&[]);
    // Four of five files have other names: of nine names eight stand for something else.
    for i in 1..5 {
        std::fs::rename(study.path(&format!("d/{i}")), study.path(&format!("d/n{i}"))).unwrap();
    }
    let why = said(&study.call(&["why", "a"]));
    assert!(why.contains("input `d` changed: 8 of 9 files"), "{why}");
    assert!(said(&study.call(&["verify"])).contains(" 0 damaged"));
}

#[test]
fn help_begins_with_what_is_a_command_s_own() {
    let study = Study::new(VARIANTS);
    let help = |arguments: &[&str]| String::from_utf8(study.call(arguments).stdout).unwrap();
    let run = help(&["run", "--help"]);
    let at = |text: &str| run.find(text).unwrap_or_else(|| panic!("{text} is not in {run}"));
    assert!(
        at("--yes") < at("Options of every command:") && at("Options of every command:") < at("--profile")
    );
    assert!(at("Examples:") < at("pipeline run --set train.iterations=2000"));
    let whole = help(&["--help"]);
    let commands: Vec<&str> = whole
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.strip_prefix("  ")?.split_whitespace().next().filter(|_| !line.starts_with("   "))
        })
        .collect();
    assert_eq!(commands[..5], ["run", "plan", "why", "log", "check"], "{whole}");
}

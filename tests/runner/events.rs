//! What a run tells: its events for programs, its record, its exit code; and what it does not tell when it is to be quiet.

use crate::study::{Study, TOY, said, stderr};
use serde_json::Value;

/// One output for each entry of a folder with `a` and `b`; what is done depends on the entry.
fn mapped(cases: &str) -> Study {
    Study::new(&format!(
        r#"name: mapped
stages:
  in:
    command: sh -c 'mkdir "$1" && echo 1 > "$1/a" && echo 2 > "$1/b"' -- ${{outputs.d}}
    outputs: [d]
  s:
    command: sh -c 'case "$(cat "$1")" in {cases} esac; echo > "$2"' -- ${{inputs.x}} ${{outputs.y}}
    inputs: {{x: in.d}}
    each: x
    outputs: [y]
"#
    ))
}

fn events(study: &Study, arguments: &[&str]) -> Vec<Value> {
    let output = study.call(&[&["run", "--log-format", "json"], arguments].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The record of the only run.
fn record(study: &Study) -> String {
    let runs: Vec<_> = std::fs::read_dir(study.path(".pipeline/runs")).unwrap().flatten().collect();
    assert_eq!(runs.len(), 1);
    std::fs::read_to_string(runs[0].path()).unwrap()
}

#[test]
fn to_try_again_is_said_only_when_nothing_failed_for_good() {
    for (cases, code) in [
        ("1) exit 75;; *) sleep 0.3; exit 1;;", 1),
        ("1) sleep 0.3; exit 75;; *) exit 1;;", 1),
        ("1) exit 75;; *) sleep 0.3; exit 75;;", 75),
        ("1) exit 75;;", 75),
    ] {
        let study = mapped(cases);
        let output = study.call(&["run", "--jobs", "2", "--keep-going"]);
        assert_eq!(output.status.code(), Some(code), "{cases}: {}", said(&output));
    }
}

#[test]
fn two_stages_that_ask_for_another_try_are_both_named() {
    let stage = |name: &str, code: u32| {
        format!("  {name}:\n    command: sh -c 'exit {code}' -- ${{outputs.x}}\n    outputs: [x]\n")
    };
    let study = Study::new(&format!("name: two\nstages:\n{}{}", stage("a", 75), stage("b", 75)));
    let output = study.call(&["run", "--keep-going"]);
    assert_eq!(output.status.code(), Some(75));
    assert!(stderr(&output).ends_with("error: stages a, b ask to be run again later\n"), "{}", said(&output));
    let study = Study::new(&format!("name: two\nstages:\n{}{}", stage("a", 75), stage("b", 4)));
    assert_eq!(study.call(&["run", "--keep-going"]).status.code(), Some(1));
}

#[test]
fn the_record_says_what_went_wrong_with_each_task() {
    let study = mapped("1) exit 75;; *) kill -9 $$;;");
    assert_eq!(study.call(&["run", "--keep-going"]).status.code(), Some(1));
    let text = record(&study);
    for part in [
        r#""task":"s[a]","failure":{"kind":"try-again"}"#,
        r#""task":"s[b]","failure":{"kind":"signal","signal":9}"#,
    ] {
        assert!(text.contains(part), "{text}");
    }
    let output = study.call(&["run", "--keep-going", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["stages"][1]["failures"][0]["failure"]["kind"], "try-again");
    assert_eq!(report["stages"][1]["reason"], "asks to be run again later (exit code 75)");
}

#[test]
fn every_event_is_a_line_for_programs() {
    let study = Study::new(TOY);
    let all = events(&study, &[]);
    let names: Vec<&str> = all.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((names.first(), names.last()), (Some(&"run-started"), Some(&"run-ended")));
    assert_eq!(all[0]["stages"], serde_json::json!(["gen", "count", "score"]));
    assert!(all.iter().all(|event| event["time"].as_f64().unwrap() > 1e9));
    for stage in ["gen", "count", "score"] {
        let of = |name: &str, key: &str| {
            let found = all.iter().filter(|event| event["event"] == name && event[key] == stage);
            found.cloned().collect::<Vec<_>>()
        };
        let (started, ended) = (of("task-started", "task"), of("task-ended", "task"));
        assert_eq!((started.len(), ended.len()), (1, 1), "{all:?}");
        assert_eq!(started[0]["reasons"], serde_json::json!(["it never ran"]));
        assert_eq!(started[0]["key"].as_str().unwrap().len(), 64);
        assert_eq!(ended[0]["end"], "made");
    }
    let again = events(&study, &[]);
    let fates: Vec<&Value> =
        again.iter().filter(|e| e["event"] == "stage-ended").map(|e| &e["row"]["fate"]).collect();
    assert_eq!(fates, ["cached", "cached", "cached"]);
    assert_eq!(again.len(), 5, "nothing else happens: {again:?}");
}

#[test]
fn a_failure_is_a_value_for_programs() {
    let study = mapped("1) exit 3;;");
    let all = events(&study, &["--jobs", "1"]);
    let failed = all.iter().find(|event| event["end"] == "failed").unwrap();
    assert_eq!((&failed["task"], &failed["failure"]["code"]), (&"s[a]".into(), &3.into()));
    assert!(failed["log"].as_str().unwrap().ends_with("s[a].log"), "{failed}");
}

#[test]
fn two_forms_on_one_output_are_refused() {
    let study = Study::new(TOY);
    let output = study.call(&["run", "--json", "--log-format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!study.exists("ran"));
}

#[test]
fn quiet_is_quiet_until_something_goes_wrong() {
    let study = mapped("9) exit 3;;");
    let output = study.call(&["run", "--quiet"]);
    assert_eq!(stderr(&output), "");
    let summary = String::from_utf8(output.stdout).unwrap();
    assert!(summary.starts_with("in") && summary.contains("2 of 2 entries"), "{summary}");
    let study = mapped("1) echo broken; exit 3;;");
    let text = stderr(&study.call(&["run", "--quiet", "--jobs", "1"]));
    let whole = "s[a]: failed with exit code 3\n  | broken\n  the whole log: ";
    assert!(text.starts_with(whole) && text.ends_with("error: stage s failed\n"), "{text}");
}

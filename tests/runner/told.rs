//! What a person is told of a stage: by the names that they know, and by the log of what made its result.

use crate::study::{Study, said, stderr, until};
use serde_json::Value;
use std::fs;
use std::process::Output;

/// A folder and a file with an ending, a stage that names both and fails, and one that runs over the folder.
const NAMES: &str = r#"name: names
stages:
  make:
    command: sh -c 'mkdir "$1" && echo x > "$1/a.txt"' -- ${outputs.d}
    outputs: [d]
  file:
    command: sh -c 'echo {} > "$1"' -- ${outputs.scores}
    outputs: {scores: scores.json}
  read:
    shell: |
      echo "{\"event\": \"message\", \"text\": \"bad picture ${inputs.d}/a.txt\"}" >> "$PIPELINE_EVENTS"
      echo "reading ${inputs.d}/a.txt of $(realpath ${inputs.d}), ${inputs.scores}: $(realpath ${inputs.scores}); not ${outputs.o}"
      exit 3
    inputs: {d: make.d, scores: file.scores}
    outputs: [o]
  each:
    command: sh -c 'echo "entry $1"; exit 3' -- ${inputs.x} ${outputs.o}
    inputs: {x: make.d}
    each: x
    outputs: [o]
"#;

/// The lines of a failed stage's log, as a run shows them.
fn shown(output: &Output) -> Vec<String> {
    let text = stderr(output);
    text.lines().filter_map(|line| line.strip_prefix("  | ")).map(str::to_string).collect()
}

#[test]
fn a_stage_s_words_name_what_the_user_wrote() {
    let study = Study::new(NAMES);
    let root = study.dir.path().canonicalize().unwrap();
    let root = root.display();
    study.write("given/a.txt", "y");
    study.write("my.json", "{}");
    let given = study.path("given").display().to_string();
    let named = |d: &str| format!("make.d={d}");
    let made = [
        format!(
            "reading out/make/d/a.txt of {root}/out/make/d, out/file/scores.json: {root}/out/file/scores.json; not out/read/o"
        ),
        "bad picture out/make/d/a.txt".into(),
    ];
    let with = |d: &str| {
        [
            format!("reading {d}/a.txt of {d}, my.json: my.json; not out/read/o"),
            format!("bad picture {d}/a.txt"),
        ]
    };
    let both = |d: &str| vec!["--with".to_string(), named(d), "--with".into(), "file.scores=my.json".into()];
    for (words, [line, message]) in [
        (vec![], made),
        (both("given"), with("given")),
        (both("./given"), with("./given")),
        (both(&given), with(&given)),
    ] {
        let words: Vec<&str> = ["run", "read"].into_iter().chain(words.iter().map(String::as_str)).collect();
        let run = study.call(&words);
        assert_eq!(run.status.code(), Some(1), "{}", said(&run));
        assert_eq!(shown(&run).join("\n"), line, "{}", said(&run));
        assert!(stderr(&run).contains(&format!("read: {message}\n")), "{}", said(&run));
        let log = study.call(&["log", "read"]);
        assert_eq!(String::from_utf8_lossy(&log.stdout), format!("{line}\n"), "{}", said(&log));
    }
    let run = study.call(&["run", "each"]);
    assert_eq!(shown(&run), ["entry out/make/d/a.txt"], "{}", said(&run));
    let run = study.call(&["run", "each", "--with", "make.d=given"]);
    assert_eq!(shown(&run), ["entry given/a.txt"], "{}", said(&run));
    // The runner's own words as well.
    std::os::unix::fs::symlink("a.txt", study.path("given/b")).unwrap();
    study.write("pipeline.yaml", &NAMES.replace("> \"$1/a.txt\"", "> \"$1/a.txt\"; ln -s a.txt \"$1/b\""));
    let run = study.call(&["run", "each"]);
    let text = stderr(&run);
    assert!(text.contains("b in out/make/d is a link; a stage maps over files and folders"), "{text}");
}

/// A stage that says its parameter, and fails where that is `bad`.
fn says(name: &str) -> String {
    format!(
        "name: {name}\nstages:\n  s:\n    command: sh -c 'echo n $1; [ $1 != bad ] && echo $1 > $2' -- ${{params.n}} ${{outputs.o}}\n    \
         params: {{n: 0}}\n    outputs: [o]\n"
    )
}

#[test]
fn the_log_is_that_of_what_made_the_result() {
    let study = Study::new(&says("one"));
    study.write("other.yaml", &says("two"));
    let run = |file: &str, n: &str| study.call(&["run", "--file", file, "--set", &format!("s.n={n}")]);
    let log = |file: &str| {
        let output = study.call(&["log", "s", "--file", file]);
        (String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output), output.status.code())
    };
    let (own, other) = ("pipeline.yaml", "other.yaml");
    for n in ["1", "2"] {
        assert!(run(own, n).status.success());
        let (text, about, _) = log(own);
        assert_eq!((text, about.lines().count()), (format!("n {n}\n"), 1), "{about}");
    }
    let again = run(own, "1");
    assert!(said(&again).contains("restored"), "{}", said(&again));
    let (text, about, _) = log(own);
    assert!(text == "n 1\n" && about.contains("of the result that counts, made "), "{text}{about}");
    // Of another study in the same store: neither its newest log, nor ours for it.
    assert!(run(other, "7").status.success());
    assert_eq!((log(own).0, log(other).0), ("n 1\n".into(), "n 7\n".into()));
    // Nor where it took a result of ours: that is told.
    assert!(run(other, "2").status.success());
    let (text, about, _) = log(other);
    assert!(text == "n 2\n" && about.contains("of the study one"), "{text}{about}");
    // A failure is what one wants to read about.
    assert!(!run(own, "bad").status.success());
    let (text, about, _) = log(own);
    assert!(text == "n bad\n" && about.contains("which gave no result"), "{text}{about}");
    let json = study.call(&["log", "s", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json["log"].as_str().unwrap().contains(json["run"].as_str().unwrap()), "{json}");
    // A result without its log is none that never ran.
    fs::remove_dir_all(study.path(".pipeline/logs")).unwrap();
    let (text, about, code) = log(other);
    assert_eq!((text.as_str(), code, about.lines().count()), ("", Some(2), 1), "{about}");
    assert!(
        about.contains("of the result that counts, made ") && about.contains("not in this store"),
        "{about}"
    );
}

/// The records of all runs.
fn records(study: &Study) -> Vec<Value> {
    serde_json::from_slice(&study.call(&["runs", "--json"]).stdout).unwrap()
}

#[test]
fn a_result_took_as_long_as_all_attempts_that_made_it() {
    let study = Study::new(
        r#"name: took
stages:
  goes-on:
    command: sh -c 'sleep 0.2; [ -e $PIPELINE_STATE/half ] && echo > $1 || { touch $PIPELINE_STATE/half; exit 75; }' -- ${outputs.o}
    outputs: [o]
  begins-anew:
    command: sh -c 'sleep 0.2; [ -e half ] && echo > $1 || { touch half; exit 75; }' -- ${outputs.o}
    outputs: [o]
"#,
    );
    for (stage, goes_on) in [("goes-on", true), ("begins-anew", false)] {
        assert_eq!(study.call(&["run", stage]).status.code(), Some(75));
        let run = study.call(&["run", stage]);
        assert!(run.status.success(), "{}", said(&run));
        assert_eq!(stderr(&run).contains("of it in earlier attempts"), goes_on, "{}", said(&run));
        let all = records(&study);
        let took = |run: &Value| run["attempts"][0]["seconds"].as_f64().unwrap();
        let [before, last] = &all[all.len() - 2..] else { panic!("{all:?}") };
        let expected = if goes_on { took(before) + took(last) } else { took(last) };
        let row = last["stages"].as_array().unwrap().iter().find(|row| row["stage"] == stage).unwrap();
        assert!((row["seconds"].as_f64().unwrap() - expected).abs() < 1e-6, "{row}");
        let plan: Value = serde_json::from_slice(&study.call(&["plan", "--json"]).stdout).unwrap();
        let planned = plan.as_array().unwrap().iter().find(|planned| planned["stage"] == stage).unwrap();
        assert!((planned["last_seconds"].as_f64().unwrap() - expected).abs() < 1e-6, "{planned}");
    }
}

#[test]
fn an_attempt_of_a_runner_that_was_killed_counts_up_to_what_it_left() {
    let study = Study::new(
        "name: killed\nstages:\n  a:\n    command: sh -c '[ -e $PIPELINE_STATE/half ] && echo > $1 || { sleep 0.3; touch \
         $PIPELINE_STATE/half half; sleep 60; }' -- ${outputs.o}\n    outputs: [o]\n",
    );
    let mut runner = study.start(&["run"]);
    until("half", || study.exists("half"));
    runner.kill().unwrap();
    runner.wait().unwrap();
    study.run(&[]);
    let last = records(&study).pop().unwrap();
    let [row, attempt] = [&last["stages"][0], &last["attempts"][0]].map(|v| v["seconds"].as_f64().unwrap());
    assert!(row - attempt > 0.29, "{row} of all attempts, {attempt} of the last");
}

#[test]
fn of_a_script_the_first_line_is_told_and_of_a_stage_how_many_tasks_it_has() {
    let study = Study::new(
        "name: lines\nstages:\n  in:\n    shell: |\n      mkdir ${outputs.d}\n      touch ${outputs.d}/a ${outputs.d}/b\n    outputs: [d]\n  \
         each:\n    command: sh -c 'cp $1 $2' -- ${inputs.x} ${outputs.o}\n    inputs: {x: in.d}\n    each: x\n    outputs: [o]\n",
    );
    let text = stderr(&study.call(&["run", "in"]));
    assert!(text.contains("mkdir \"${outputs_d}\" …") || text.contains(" …'"), "{text}");
    assert!(!text.contains("touch"), "{text}");
    let events = study.call(&["run", "--log-format", "json"]);
    let events: Vec<Value> = String::from_utf8_lossy(&events.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &Value| event["event"] == "stage-started")
        .collect();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        (&events[0]["stage"], &events[0]["tasks"], &events[0]["cached"]),
        (&"each".into(), &2.into(), &0.into())
    );
}

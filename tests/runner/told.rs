//! What a person is told of a stage: by the names that they know, and by the log of what made its result.

use crate::study::{Study, said, stderr};
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

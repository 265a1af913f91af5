//! What a person is told of a stage: by the names that they know, and by the log of what made its result.

use crate::study::{Study, said, stderr};
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

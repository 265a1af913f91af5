//! Mistakes in the study and on the command line: one line, exit code 2, nothing run.

use crate::study::{Study, TOY, said, stderr};

/// The single line that is said about a study with one piece replaced.
fn mistake(old: &str, new: &str) -> String {
    assert!(TOY.contains(old), "{old}");
    let study = Study::new(&TOY.replacen(old, new, 1));
    let run = study.call(&["run"]);
    assert_eq!(run.status.code(), Some(2), "{}", stderr(&run));
    assert!(run.stdout.is_empty() && study.read("ran").is_empty());
    let check = study.call(&["check"]);
    assert_eq!((check.status.code(), stderr(&check)), (Some(2), stderr(&run)));
    let text = stderr(&run);
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().strip_prefix("error: ").unwrap().to_string()
}

#[test]
fn of_the_study() {
    let cases = [
        (
            "    params: {size",
            "    parms: {size",
            "pipeline.yaml:5: unknown key `parms`; did you mean `params`?",
        ),
        ("{size: 5}", "{sise: 5}", "pipeline.yaml:5: gen has no parameter `sise`; did you mean `size`?"),
        ("{size: 5}", "{size: 500}", "pipeline.yaml:5: size: 500 is more than 100"),
        ("{size: 5}", "{size: many}", "pipeline.yaml:5: size: `many` is not a whole number"),
        (
            "{workers: 2}",
            "{rate: 2}",
            "pipeline.yaml:6: `rate` of gen is a parameter; it belongs under `params`",
        ),
        ("[files]", "{files: a/b}", "pipeline.yaml:7: `a/b` is not a plain file name"),
        (
            "files: gen.files",
            "files: gen.file",
            "pipeline.yaml:10: stage gen has no output `file`; did you mean `files`?",
        ),
        (
            "files: gen.files",
            "files: gem.files",
            "pipeline.yaml:10: `gem.files` is neither a file nor an output: there is no stage `gem`; did you mean `gen`?",
        ),
        (
            "files: gen.files",
            "files: ./out/gen/files",
            "pipeline.yaml:10: ./out/gen/files is made by a run; name the stage's output, as in `stage.output`",
        ),
        ("files: gen.files", "files: data/none", "pipeline.yaml:10: no such file or folder: data/none"),
        (
            "files: gen.files",
            "files: score.scores",
            "pipeline.yaml:8: the stages go round in a circle: count → score → count",
        ),
        (
            "${inputs.files}",
            "${inputs.file}",
            "pipeline.yaml:9: stage count has no inputs.file; did you mean `files`?",
        ),
        ("${outputs.n}", "there", "pipeline.yaml:11: the command never names ${outputs.n}"),
        ("run: ./gen", "run: ./gem", "pipeline.yaml:4: no such program: ./gem"),
        ("    run: ./gen\n", "", "pipeline.yaml:3: stage gen has neither `run` nor `command` nor `shell`"),
        (
            "  gen:\n",
            "  pipeline:\n",
            "pipeline.yaml:3: `pipeline` means the runner itself; call the stage otherwise",
        ),
        ("  count:\n", "  gen:\n", "pipeline.yaml:8: `gen` stands here twice; first on line 3"),
        (
            "show: [scores]",
            "show: [score]",
            "pipeline.yaml:19: stage score has no output `score`; did you mean `scores`?",
        ),
        (
            "weight: 0.5",
            "weight: {a: 1}",
            "pipeline.yaml:17: expected a value or a list of values, found a mapping",
        ),
        ("name: toy\n", "", "pipeline.yaml:1: the key `name` is missing"),
        ("name: toy", "name: [", "pipeline.yaml:2"),
    ];
    for (old, new, expected) in cases {
        let text = mistake(old, new);
        let same = if new == "name: [" { text.starts_with("pipeline.yaml:") } else { text == expected };
        assert!(same, "expected {expected}\n     got {text}");
    }
}

#[test]
fn of_the_command_line() {
    let study = Study::new(TOY);
    let cases: [(&[&str], &str); 9] = [
        (&["run", "scor"], "the study has no stage `scor`; did you mean `score`?"),
        (&["why", "scor"], "the study has no stage `scor`; did you mean `score`?"),
        (&["log", "scor"], "the study has no stage `scor`; did you mean `score`?"),
        (&["run", "--set", "gen.size"], "--set gen.size: expected stage.param=value"),
        (
            &["run", "--set", "gen.sise=3"],
            "--set gen.sise=3: gen has no parameter `sise`; did you mean `size`?",
        ),
        (&["run", "--set", "score.wait=3"], "--set score.wait=3: stage score has no parameter `wait`"),
        (&["run", "--with", "gen.file=gen"], "stage gen has no output `file`; did you mean `files`?"),
        (&["run", "--with", "gen.files=none"], "--with gen.files=none: no such file or folder: none"),
        (
            &["run", "--file", "none.yaml"],
            "no study at none.yaml; name one with --file, or begin one with `pipeline init`",
        ),
    ];
    for (arguments, expected) in cases {
        let output = study.call(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stderr(&output), format!("error: {expected}\n"));
    }
    assert!(study.read("ran").is_empty());
}

#[test]
fn a_program_that_does_not_describe_itself() {
    let study = Study::new(TOY);
    study.program("gen", "#!/bin/sh\necho usage: gen >&2; exit 1\n");
    let output = study.call(&["run"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(
        text.starts_with("error: pipeline.yaml:4: asking ") && text.contains("usage: gen; use `command:`"),
        "{text}"
    );
}

#[test]
fn a_text_file_that_is_no_utf_8_is_told_with_its_place() {
    let study = Study::new(TOY);
    let bytes = |name: &str, bytes: &[u8]| std::fs::write(study.path(name), bytes).unwrap();
    let refused = |arguments: &[&str], expected: &str| {
        let home = study.dir.path().to_str().unwrap();
        let output = study.command(arguments).env("XDG_CONFIG_HOME", home).output().unwrap();
        let text = stderr(&output);
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{arguments:?}: {text}");
        assert_eq!(text, format!("error: {expected}\n"), "{arguments:?}");
    };
    let wrong = "byte 7 (0xe9) is no UTF-8; save the file as UTF-8";
    bytes("latin.yaml", b"# a study\n# caf\xe9\nname: a\nstages: {}\n");
    for command in ["run", "plan", "check", "graph", "ui"] {
        refused(
            &[command, "--file", "latin.yaml"],
            &format!("latin.yaml:2: {}", wrong.replace("byte 7", "byte 6")),
        );
    }
    study.write("over.yaml", "extends: latin.yaml\n");
    refused(&["run", "--file", "over.yaml"], &format!("latin.yaml:2: {}", wrong.replace("byte 7", "byte 6")));
    bytes("wide.yaml", &[0xff, 0xfe, b'n', 0]);
    refused(&["check", "--file", "wide.yaml"], "wide.yaml:1: this is UTF-16; save it as UTF-8");
    // The files of clusters.
    bytes("mine.yaml", b"submit: caf\xe9\n");
    study.write("far.yaml", &(TOY.to_string() + "engine: cluster\ncluster: {preset: ./mine.yaml}\n"));
    let mine = study.dir.path().canonicalize().unwrap().join("./mine.yaml");
    let place = wrong.replace("byte 7", "byte 12");
    refused(&["check", "--file", "far.yaml"], &format!("{}:1: {place}", mine.display()));
    std::fs::create_dir_all(study.path("pipeline/clusters")).unwrap();
    bytes("pipeline/clusters/own.yaml", b"submit: caf\xe9\n");
    let own = study.path("pipeline/clusters/own.yaml");
    refused(&["clusters", "own"], &format!("{}:1: {place}", own.display()));
    let home = study.dir.path().to_str().unwrap();
    let list = study.command(&["clusters"]).env("XDG_CONFIG_HOME", home).output().unwrap();
    assert!(said(&list).contains("  cannot be read: ") && said(&list).contains(&place), "{}", said(&list));
    // A lock file.
    bytes("pipeline.lock", b"{\"version\": \"\xe9\"}");
    let locked = study.call(&["run", "--locked"]);
    assert_eq!((locked.status.code(), stderr(&locked).lines().count()), (Some(2), 1), "{}", said(&locked));
    assert!(stderr(&locked).contains("is no lock file") && study.read("ran").is_empty(), "{}", said(&locked));
}

#[test]
fn a_word_of_dvc_or_snakemake_is_answered_by_ours() {
    let study = Study::new(TOY);
    let page = include_str!("../../docs/how-to/moving.md");
    let table = page.split("| typed by habit | of | here |\n|---|---|---|\n").nth(1).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim()).collect())
        .collect();
    assert!(rows.len() > 20);
    for row in &rows {
        let [word, of, here] = row[..] else { panic!("{row:?}") };
        let word = word.trim_matches('`');
        let arguments = if word.starts_with('-') { vec!["run", word] } else { vec![word] };
        let output = study.call(&arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        let tips: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("tip: ")).collect();
        assert_eq!(tips, [format!("the `{word}` of {of} is {here} here")], "{text}");
    }
    for (arguments, ours) in [
        (&["repro"][..], "pipeline run"),
        (&["run", "-n"], "pipeline plan"),
        (&["dag"], "pipeline graph"),
        (&["status"], "pipeline plan"),
        (&["push", "-r", "team"], "pipeline push --cache URL"),
        (&["-n"], "pipeline plan"),
        (&["run", "--config=lr=1"], "pipeline run --set STAGE.PARAM=VALUE"),
    ] {
        let text = stderr(&study.call(arguments));
        assert!(text.contains(&format!("is `{ours}` here")), "{arguments:?}: {text}");
    }
    // What is none of theirs gets the nearest of ours.
    assert!(stderr(&study.call(&["plam"])).contains("'plan'"));
    assert!(!study.exists(".pipeline"));
}

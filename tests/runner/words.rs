//! Commands and scripts as people write them, and the files that their words name.

use crate::study::{Study, said, stderr};
use std::fs;

/// A study of one stage with this key and an output `o`.
fn one(call: &str) -> Study {
    Study::new(&format!("name: one\nstages:\n  a:\n    outputs: [o]\n    {call}\n"))
}

/// The one line by which a study is refused, before anything ran.
fn refused(study: &Study) -> String {
    let before: Vec<_> = fs::read_dir(study.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    let output = study.call(&["run"]);
    let text = stderr(&output);
    assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{}", said(&output));
    let after = fs::read_dir(study.dir.path()).unwrap().count();
    assert!(after <= before.len() + 1, "something was written beside the store: {}", said(&output));
    text.trim_end().strip_prefix("error: ").unwrap().to_string()
}

#[test]
fn a_shell_s_operators_are_refused_with_their_place() {
    for (call, token) in [
        ("command: mkdir ${outputs.o} && touch ${outputs.o}/x", "&&"),
        ("command: 'mkdir ${outputs.o} || true'", "||"),
        ("command: mkdir ${outputs.o}; true", ";"),
        ("command: ls '|' | cp x ${outputs.o}", "|"),
        ("command: ls '>' > ${outputs.o}", ">"),
        ("command: cp x ${outputs.o} 2>&1", "2>&"),
        ("command: sort ${outputs.o} < x", "<"),
        ("command: cp x ${outputs.o} &", "&"),
        ("command: >\n      cp x\n      ${outputs.o} && true", "&&"),
        ("command: |\n      cp x |\n       cp ${outputs.o}", "|"),
    ] {
        let study = one(call);
        let yaml = study.read("pipeline.yaml");
        let at = yaml.rfind(&format!("{token}\n")).or_else(|| yaml.rfind(token)).unwrap();
        let above: Vec<&str> = yaml[..at].split('\n').collect();
        let place = format!("{}: column {}", above.len(), above[above.len() - 1].len() + 1);
        let text = refused(&study);
        let begin =
            format!("pipeline.yaml:{place}: `command:` starts no shell, so `{token}` would be a word");
        assert!(text.starts_with(&begin) && text.contains("write `shell:` in its place"), "{call}: {text}");
    }
    let text = refused(&one("command: |\n      mkdir -p ${outputs.o}\n      train --epochs=3 ${outputs.o}"));
    assert!(
        text.starts_with("pipeline.yaml:7: column 7: a `command:` is one line, and `train` begins another"),
        "{text}"
    );
    let build = "name: b\nbuild: {command: make && make install, sources: []}\nstages: {}\n";
    assert!(refused(&Study::new(build)).starts_with("pipeline.yaml:2: column 23: "));
    // In quotes, and in a list of words, they are what they say.
    for call in [
        "command: |\n      sh -c 'echo \"$1\"; true && true | cat\n      echo x > \"$2\"' -- '&&' ${outputs.o}",
        "command: [sh, -c, 'shift 3; true > $1', --, '&&', '|', '>', '${outputs.o}']",
        "command: |\n      sh \\\n        -c 'true > $2' -- \\; ${outputs.o}",
    ] {
        let output = one(call).call(&["run"]);
        assert!(output.status.success(), "{call}: {}", said(&output));
    }
}

#[test]
fn a_script_runs_line_by_line_and_stops_at_the_first_failure() {
    let study = one("shell: |\n      mkdir -p ${outputs.o}\n      false | true\n      touch went-on");
    let output = study.call(&["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(!study.exists("went-on"));
    let study = one("shell: echo ${nothing}; touch ${outputs.o}");
    assert!(stderr(&study.call(&["run"])).contains("nothing: unbound variable"));
    let study = one("shell: |\n      echo one\n      nosuchprogram\n      true > ${outputs.o}");
    assert!(stderr(&study.call(&["run"])).contains("line 2: nosuchprogram"));
}

#[test]
fn a_script_is_in_the_key() {
    let yaml = |script: &str| {
        format!("name: one\nstages:\n  a:\n    outputs: [o]\n    params: {{n: 1}}\n    shell: {script}\n")
    };
    let study = Study::new(&yaml("echo a >> ran; echo ${params.n} > ${outputs.o}"));
    assert_eq!(study.run(&[]), ["a"]);
    assert!(study.run(&[]).is_empty());
    assert_eq!(study.run(&["--set", "a.n=x y"]), ["a"]);
    assert_eq!(study.read("out/a/o"), "x y\n");
    study.write("pipeline.yaml", &yaml("echo a >> ran; echo ${params.n}. > ${outputs.o}"));
    assert_eq!(study.run(&[]), ["a"]);
    assert_eq!(study.read("out/a/o"), "1.\n");
}

/// Names that a shell would split, expand, run, or take for its end.
const NAMES: [&str; 9] = [
    "a b.txt",
    "x;touch PWNED;.txt",
    "y$(touch PWNED).txt",
    "z`touch PWNED`.txt",
    "'q.txt",
    "\"d.txt",
    "-n.txt",
    "*.txt",
    "new\nline.txt",
];

fn odd_names(study: &Study) {
    for (i, name) in NAMES.iter().enumerate() {
        study.write(&format!("data/{name}"), &format!("{i}\n"));
    }
}

#[test]
fn a_script_gets_any_file_name_as_one_word() {
    let script = "shell: |
      cat ${inputs.i} > ${outputs.o}
      cat \"${inputs.i}\" \"$(echo ${inputs.i})\" >> \"${outputs.o}\"
      cat <<E >> ${outputs.o}
      name: ${inputs.i}
      E
      f() { cat ${inputs.i}; }
      f else >> ${outputs.o}
    inputs: {i: src.o}
    each: i
  src: {command: 'cp -r data ${outputs.o}', outputs: [o]}";
    let study = one(script);
    odd_names(&study);
    let output = study.call(&["run"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!said(&output).contains("PWNED2") && !study.exists("PWNED"));
    let made = fs::read_dir(study.path("out/a/o")).unwrap();
    let mut made: Vec<String> = made.map(|e| fs::read_to_string(e.unwrap().path()).unwrap()).collect();
    made.sort();
    assert_eq!(made.len(), NAMES.len());
    for (i, text) in made.iter().enumerate() {
        let name = NAMES[i].lines().next().unwrap();
        assert!(
            text.starts_with(&format!("{i}\n{i}\n{i}\nname: ")) && text.ends_with(&format!("\n{i}\n")),
            "{text}"
        );
        assert!(text.contains(name), "{text}");
    }
    for (line, script, inside) in [
        (5, "shell: awk '{print \"${inputs.i}\"}' > ${outputs.o}", "single quotes"),
        (
            6,
            "shell: |\n      cat <<'E' > ${outputs.o}\n      ${inputs.i}\n      E",
            "a here-document whose word is quoted",
        ),
    ] {
        let study = one(&format!("{script}\n    inputs: {{i: pipeline.yaml}}"));
        let text = refused(&study);
        let begin = format!("pipeline.yaml:{line}: `${{inputs.i}}` stands inside {inside}");
        assert!(text.starts_with(&begin), "{text}");
    }
}

#[test]
fn no_file_name_is_pasted_into_a_shell() {
    for command in [
        "sh -c 'cat ${inputs.i} > ${outputs.o}'",
        "sh -c 'cat \"${inputs.i}\" > ${outputs.o}'",
        "env X=1 /bin/bash -euo pipefail -c 'cat ${inputs.i} > ${outputs.o}'",
    ] {
        let study = one(&format!("command: {command}\n    inputs: {{i: data}}\n    each: i"));
        odd_names(&study);
        let text = refused(&study);
        assert!(
            text.starts_with("pipeline.yaml:5: `${inputs.i}` is pasted into the text of a shell, and the names of the entries")
                && text.ends_with("write `shell:`, or `\"$1\"` in the text and the place after it"),
            "{text}"
        );
        assert!(!study.exists("PWNED"));
    }
    let pasted = "command: sh -c 'echo ${params.p} > ${outputs.o}'\n    params: {p: 1}";
    assert!(one(pasted).call(&["run"]).status.success());
    let output = one(pasted).call(&["run", "--set", "a.p=$(touch PWNED)"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("its value `$(touch PWNED)` would not stay one word there"),
        "{}",
        stderr(&output)
    );
    // As words of a program they are safe.
    let study = one("command: cp ${inputs.i} ${outputs.o}\n    inputs: {i: src.o}\n    each: i\n  \
         src: {command: 'cp -r data ${outputs.o}', outputs: [o]}");
    odd_names(&study);
    let output = study.call(&["run"]);
    assert!(output.status.success(), "{}", said(&output));
}

/// What a plan says that a stage's command names.
fn named(study: &Study) -> Vec<String> {
    let plan = study.call(&["plan", "--json"]);
    let json: serde_json::Value =
        serde_json::from_slice(&plan.stdout).unwrap_or_else(|_| panic!("{}", said(&plan)));
    let stage = json.as_array().unwrap().iter().find(|stage| stage["stage"] == "a").unwrap();
    stage["files"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_string()).collect()
}

#[test]
fn every_word_that_names_a_file_of_the_study_is_followed() {
    let write = |study: &Study, version: &str| {
        for name in ["pkg/__main__.py", "pkg/inner/data.txt", "module.py", "conf.txt", "script.sh"] {
            study.write(name, version);
        }
    };
    let at = Study::new("");
    let absolute = at.path("").canonicalize().unwrap();
    for (call, files) in [
        ("command: sh -c 'echo a >> ran; true > $1' -- ${outputs.o} conf.txt", vec!["conf.txt"]),
        ("command: sh -c 'echo a >> ran; true > $1' -- ${outputs.o} pkg", vec!["pkg"]),
        ("command: sh -c 'echo a >> ran; true > $1' -- ${outputs.o} ./pkg/", vec!["pkg"]),
        (
            "command: sh -c 'echo a >> ran; true > $1' -- ${outputs.o} --config=conf.txt -x=pkg/inner",
            vec!["conf.txt", "pkg/inner"],
        ),
        (
            "command: sh -c 'echo a >> ran; true > $1' -- ${outputs.o} -m pkg.inner -m module",
            vec!["module.py", "pkg"],
        ),
        (
            "command: sh -c 'echo a >> ran; true > $1' -- ${outputs.o} ABS/script.sh --x=ABS/pkg",
            vec!["pkg", "script.sh"],
        ),
        (
            "shell: |\n      cat --c=conf.txt pkg/inner/* \"$(cat script.sh)\" || true\n      echo a >> ran; true > ${outputs.o}",
            vec!["conf.txt", "pkg/inner", "script.sh"],
        ),
    ] {
        let yaml = format!("name: one\nstages:\n  a:\n    outputs: [o]\n    {call}\n");
        at.write("pipeline.yaml", &yaml.replace("ABS", absolute.to_str().unwrap()));
        write(&at, "v1\n");
        at.run(&["--force", "a"]);
        assert_eq!(named(&at), files, "{call}");
        assert!(at.run(&[]).is_empty(), "{call}");
        // What Python writes beside what it reads is not what it reads.
        at.write("pkg/__pycache__/x.pyc", call);
        assert!(at.run(&[]).is_empty(), "{call}");
        write(&at, call);
        assert_eq!(at.run(&[]), ["a"], "{call}");
    }
}

#[test]
fn words_that_name_the_study_itself_or_what_a_run_makes_are_not_followed() {
    let study = one(
        "command: sh -c 'echo a >> ran; true > $1' -- ${outputs.o} . ./ .. / out out/a/o .pipeline deep ABS none",
    );
    let yaml = study.read("pipeline.yaml");
    let absolute = study.dir.path().canonicalize().unwrap();
    let yaml =
        yaml.replace("ABS", absolute.to_str().unwrap()).replace("name: one", "name: one\nout: deep/out");
    study.write("pipeline.yaml", &yaml);
    study.write("deep/x", "");
    assert_eq!(study.run(&[]), ["a"]);
    assert!(named(&study).is_empty());
    study.write("deep/x", "other");
    assert!(study.run(&[]).is_empty());
}

#[test]
fn a_file_that_a_flag_names_is_watched_while_the_stage_runs() {
    let study = one("command: sh -c 'echo new > conf.txt; true > $1' -- ${outputs.o} --config=conf.txt");
    study.write("conf.txt", "old\n");
    let output = study.call(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("a: failed: `conf.txt` changed while it ran"), "{}", stderr(&output));
}

//! What nobody may read, and what no terminal may obey.

use crate::study::{Study, said, stderr};
use std::fs;
use std::path::{Path, PathBuf};

const SECRET: &str = "hunter2";

/// Every file of the store, but what the stage itself wrote.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap().is_dir() {
            true if path.ends_with("blobs") => {}
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

const FETCH: &str = "name: fetch
stages:
  a:
    command: sh -c 'echo a >> ran; echo $1 > $3; [ ! -e fail ]' -- ${params.url} https://me:hunter2@host/y ${outputs.x}
    params: {url: 'https://me:hunter2@host/x?token=hunter2'}
    env: {MIRROR: 'https://hunter2@mirror/'}
    outputs: [x]
";

#[test]
fn credentials_in_addresses_are_used_and_never_shown_or_kept() {
    let study = Study::new(FETCH);
    let mut told = Vec::new();
    let mut call = |arguments: &[&str], code: i32| {
        let output = study.call(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        told.push((arguments.join(" "), said(&output)));
    };
    call(&["run", "--log-format", "json"], 0);
    assert_eq!(study.read("out/a/x"), "https://me:hunter2@host/x?token=hunter2\n");
    // Another password, the same place: nothing to do. Another place is another action.
    study.write("pipeline.yaml", &FETCH.replace("me:hunter2@", "you:hunter2-new@"));
    assert!(study.run(&[]).is_empty());
    study.write("fail", "");
    call(&["plan", "--set", "a.url=https://me:hunter2@elsewhere/"], 0);
    call(&["plan", "--json", "--set", "a.url=https://me:hunter2@elsewhere/"], 0);
    call(&["run", "--set", "a.url=https://me:hunter2@elsewhere/"], 1);
    call(&["why", "a", "--set", "a.url=https://me:hunter2@elsewhere/"], 0);
    call(&["run", "--set", "a.ur=https://me:hunter2@elsewhere/"], 2);
    call(&["run", "--set", "https://me:hunter2@elsewhere/"], 2);
    call(&["run", "--sett", "https://me:hunter2@elsewhere/"], 2);
    call(&["run", "--jobs", "https://me:hunter2@elsewhere/"], 2);
    call(&["run", "--cache", "ftp://me:hunter2@elsewhere/"], 2);
    call(&["push", "--cache", "http://me:hunter2@127.0.0.1:1/x"], 1);
    call(&["run", "--cache", "http://me:hunter2@127.0.0.1:1/x", "--set", "a.url=ftp://a:hunter2@b/"], 1);
    call(&["export", "fetch", "x.tar.zst"], 0);
    for (line, text) in told {
        assert!(!text.contains(SECRET), "{line}: {text}");
    }
    let mut found = Vec::new();
    files(&study.path(".pipeline"), &mut found);
    assert!(found.len() > 5);
    for path in found {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains(SECRET), "{}: {text}", path.display());
    }
    let archive = zstd::decode_all(fs::File::open(study.path("x.tar.zst")).unwrap()).unwrap();
    let text = String::from_utf8_lossy(&archive).into_owned();
    // The output itself is the stage's affair.
    assert_eq!(text.matches(SECRET).count(), study.read("out/a/x").matches(SECRET).count());
}

#[test]
fn escape_sequences_are_text() {
    let study = Study::new(
        "name: e
stages:
  a:
    command: sh -c 'printf \"one\\\\033[2Jtwo\\\\n10%%\\\\r20%%\\\\n\"; echo $1 > $2' -- ${params.p} ${outputs.x}
    params: {p: \"\\e]0;owned\\a\"}
    outputs: [x]
",
    );
    let outputs = [
        study.call(&["plan"]),
        study.call(&["run"]),
        study.call(&["plan", "--set", "a.p=\u{1b}[2J"]),
        study.call(&["why", "a", "--set", "a.p=\u{1b}[2J"]),
        study.call(&["log", "a"]),
        study.call(&["run", "\u{1b}[2J"]),
        study.call(&["run", "--file", "\u{1b}[2J\u{9b}31m"]),
        study.call(&["run", "--\u{1b}[2J"]),
    ];
    for output in &outputs {
        let text = said(output);
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{7}', '\r']), "{text:?}");
    }
    assert_eq!(String::from_utf8_lossy(&outputs[4].stdout), "one\\u{1b}[2Jtwo\n10%\n20%\n");
    assert!(stderr(&outputs[5]).starts_with("error: the study has no stage `\\u{1b}[2J`"));
}

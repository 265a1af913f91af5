//! What is lost or damaged in a store: `verify` says it, the next run makes it again, `gc` removes what nothing can be made of.

use crate::study::{Study, TOY, said, until};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

/// gen makes files, each of which `size` weighs.
const EACH: &str = "name: each
stages:
  gen:
    run: ./gen
    params: {size: 3}
    outputs: [files]
  size:
    command: sh -c 'echo size $(cat $1) >> ran; wc -c < $1 > $2; echo $3 >> $2' -- ${inputs.file} ${outputs.n} ${params.p}
    each: file
    inputs: {file: gen.files}
    params: {p: 1}
    outputs: {n: n.txt}
  all:
    command: sh -c 'echo all >> ran; cat $1/* > $2' -- ${inputs.sizes} ${outputs.o}
    inputs: {sizes: size.n}
    outputs: [o]
";

/// Everything that lies in a folder of the store, two levels down.
fn list(study: &Study, area: &str) -> Vec<PathBuf> {
    let below = |folder: PathBuf| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    below(study.path(".pipeline").join(area)).flat_map(below).collect()
}

/// The place of a content among the blobs.
fn blob(study: &Study, content: &str) -> PathBuf {
    let found = list(study, "blobs").into_iter().find(|path| fs::read_to_string(path).unwrap() == content);
    found.unwrap()
}

#[test]
fn lost_contents_and_lists_are_told_of_and_made_again() {
    let study = Study::new(TOY);
    study.run(&[]);
    let n = blob(&study, "3\n");
    fs::remove_file(&n).unwrap();
    for (place, rerun) in [(n, vec!["count"]), (blob(&study, "file 1\n"), vec!["gen"])] {
        let _ = fs::remove_file(&place);
        // The folder that has the file as well is lost with it.
        if rerun == ["gen"] {
            fs::remove_dir_all(study.path("out/gen/files").canonicalize().unwrap()).unwrap();
        }
        let found = study.call(&["verify"]);
        assert_eq!(found.status.code(), Some(1));
        let (text, place) = (said(&found), place.strip_prefix(study.path(".pipeline")).unwrap());
        let says = format!("{}.", rerun[0]);
        let line =
            text.lines().find(|line| line.trim().starts_with(&says)).unwrap_or_else(|| panic!("{text}"));
        assert!(line.ends_with(&format!("lacks {}", place.display())), "{text}");
        assert!(text.contains("0 damaged\n1 result of the study without contents\n"), "{text}");
        assert!(
            text.ends_with("error: 1 result without contents, which counts as absent: `pipeline run` makes again what the study needs, and `pipeline gc` removes the others\n"),
            "{text}"
        );
        assert_eq!(study.run(&[]), rerun);
        assert!(study.call(&["verify"]).status.success());
    }
    let json = study.call(&["verify", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["missing"], serde_json::json!([]));
}

#[test]
fn what_no_run_makes_again_goes_with_gc() {
    let study = Study::new(TOY);
    study.run(&["--set", "score.weight=7"]);
    study.run(&[]);
    let old =
        list(&study, "blobs").into_iter().find(|p| fs::read_to_string(p).unwrap().contains("\"weight\": 7"));
    fs::remove_file(old.unwrap()).unwrap();
    assert_eq!(study.call(&["verify"]).status.code(), Some(1));
    assert!(study.run(&[]).is_empty());
    assert_eq!(study.call(&["verify"]).status.code(), Some(1));
    assert!(study.call(&["gc"]).status.success());
    assert!(study.call(&["verify"]).status.success());
    assert_eq!(study.run(&["--set", "score.weight=7"]), ["score"]);
}

#[test]
fn a_damaged_blob_is_not_believed_by_the_folders_made_of_it() {
    let study = Study::new(EACH);
    study.run(&[]);
    let place = blob(&study, "file 2\n");
    // As a disk does it: every name of the content, and nobody is told.
    let meta = fs::metadata(&place).unwrap();
    let times = filetime(&meta);
    let mut permissions = meta.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(&place, permissions).unwrap();
    fs::write(&place, "fil3 2\n").unwrap();
    fs::File::open(&place).unwrap().set_modified(times).unwrap();
    let found = study.call(&["verify"]);
    assert_eq!(found.status.code(), Some(1), "{}", said(&found));
    assert!(said(&found).contains("1 damaged"), "{}", said(&found));
    assert_eq!(study.run(&["gen"]), ["gen"]);
    assert_eq!(study.read("out/gen/files/2"), "file 2\n");
    assert!(study.call(&["verify"]).status.success());
}

fn filetime(meta: &fs::Metadata) -> std::time::SystemTime {
    meta.modified().unwrap()
}

#[test]
fn lists_and_blobs_that_are_lost_under_each_are_made_again() {
    for lose in ["trees", "blobs", "both"] {
        let study = Study::new(EACH);
        study.run(&[]);
        if lose != "blobs" {
            fs::remove_dir_all(study.path(".pipeline/trees")).unwrap();
        }
        if lose != "trees" {
            for content in ["file 0\n", "file 2\n"] {
                fs::remove_file(blob(&study, content)).unwrap();
            }
        }
        assert!(study.run(&[]).is_empty(), "{lose}: all is at hand");
        let mut ran = study.run(&["--set", "size.p=2"]);
        ran.sort();
        assert_eq!(ran, ["all", "size file 0", "size file 1", "size file 2"], "{lose}");
        assert_eq!(study.read("out/all/o"), "7\n2\n".repeat(3));
        let verify = study.call(&["verify"]);
        assert!(verify.status.success(), "{lose}: {}", said(&verify));
    }
    // Damaged ones are lost as well.
    let study = Study::new(EACH);
    study.run(&[]);
    for path in list(&study, "trees") {
        fs::write(path, "no list").unwrap();
    }
    assert_eq!(study.run(&["--set", "size.p=2"]).len(), 4);
}

#[test]
fn verify_makes_again_what_folders_still_have() {
    let study = Study::new(EACH);
    study.run(&[]);
    let (content, list_of_files) = (blob(&study, "file 1\n"), list(&study, "trees"));
    fs::remove_file(&content).unwrap();
    list_of_files.iter().for_each(|path| fs::remove_file(path).unwrap());
    let verify = study.call(&["verify"]);
    assert!(verify.status.success(), "{}", said(&verify));
    assert_eq!(fs::read_to_string(content).unwrap(), "file 1\n");
    assert!(study.run(&[]).is_empty());
}

#[test]
fn what_stands_in_for_an_output_is_taken_in_beside_no_gc() {
    let study = Study::new(TOY);
    study.run(&[]);
    study.write("given/a", "a");
    let lock = fs::File::options().read(true).write(true).open(study.path(".pipeline/locks/store")).unwrap();
    lock.lock().unwrap();
    let contents = || list(&study, "blobs").len();
    let before = contents();
    let mut command = study.command(&["run", "--with", "gen.files=given"]);
    let mut runner =
        command.stdout(Stdio::null()).stderr(fs::File::create(study.path("said")).unwrap()).spawn().unwrap();
    until("it waits", || study.read("said").contains("waiting for a gc of the store"));
    assert_eq!(contents(), before, "nothing is taken in that a gc could remove");
    lock.unlock().unwrap();
    assert!(runner.wait().unwrap().success());
    assert_eq!(study.read("out/count/n"), "1\n");
}

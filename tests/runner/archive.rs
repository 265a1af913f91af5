//! Archives: out of one store, into another, and never half.

use crate::study::{Study, TOY, said, stderr};
use std::fs;
use std::path::PathBuf;

pub fn exported(what: &str) -> (Study, PathBuf) {
    let study = Study::new(TOY);
    study.run(&[]);
    let run = fs::read_dir(study.path(".pipeline/runs")).unwrap().next().unwrap().unwrap().file_name();
    let run = run.to_str().unwrap().trim_end_matches(".json").to_string();
    let what = if what == "run" { run.as_str() } else { what };
    let output = study.call(&["export", what, "toy.tar.zst"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("toy.tar.zst: 3 results, 7 files"), "{}", said(&output));
    let path = study.path("toy.tar.zst");
    (study, path)
}

pub fn import(study: &Study, path: &std::path::Path) -> std::process::Output {
    study.call(&["import", path.to_str().unwrap()])
}

#[test]
fn a_study_travels_in_one_file() {
    let (a, path) = exported("toy");
    let b = Study::new(TOY);
    let output = import(&b, &path);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output), "study toy: 3 results, 7 files, 61 B\n");
    assert!(b.run(&[]).is_empty());
    assert_eq!(b.read("out/gen/files/4"), "file 4\n");
    assert_eq!(b.read("out/score/scores.json"), a.read("out/score/scores.json"));
    // Once more changes nothing, and equal results make equal files.
    assert!(import(&b, &path).status.success());
    assert!(a.call(&["export", "toy", "again.tar.zst"]).status.success());
    assert_eq!(fs::read(&path).unwrap(), fs::read(a.path("again.tar.zst")).unwrap());
    assert!(b.call(&["verify"]).status.success());
}

#[test]
fn a_run_travels_with_its_record() {
    let (a, path) = exported("run");
    let b = Study::new(TOY);
    assert!(import(&b, &path).status.success());
    assert!(b.run(&[]).is_empty());
    let names = |study: &Study| {
        let runs = fs::read_dir(study.path(".pipeline/runs")).unwrap();
        let mut names: Vec<_> = runs.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert!(names(&b).contains(&names(&a)[0]));
    let unknown = a.call(&["export", "nothing", "x.tar.zst"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("there is no run `nothing`, and the study is called `toy`"));
}

/// A name and a content.
pub type Entry = (String, Vec<u8>);

/// The entries of an archive.
pub fn entries(path: &std::path::Path) -> Vec<Entry> {
    let mut tar = tar::Archive::new(zstd::Decoder::new(fs::File::open(path).unwrap()).unwrap());
    let read = |entry: std::io::Result<tar::Entry<_>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), bytes)
    };
    tar.entries().unwrap().map(read).collect()
}

pub fn packed(path: &std::path::Path, entries: &[Entry]) {
    let mut tar = tar::Builder::new(zstd::Encoder::new(fs::File::create(path).unwrap(), 0).unwrap());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        // The name is put in by hand: the library itself refuses those that lead out.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

#[test]
fn a_bad_archive_changes_nothing() {
    let (a, path) = exported("toy");
    let good = entries(&path);
    let bad = a.path("bad.tar.zst");
    let at = |kind: &str| good.iter().position(|(name, _)| name.starts_with(kind)).unwrap();
    let refused = |words: &str| {
        let b = Study::new(TOY);
        let output = import(&b, &bad);
        assert_eq!(output.status.code(), Some(2), "{words}: {}", said(&output));
        assert!(
            stderr(&output).contains(words) && stderr(&output).contains("nothing was imported"),
            "{}",
            said(&output)
        );
        assert!(!b.exists(".pipeline/results") && !b.exists(".pipeline/blobs"), "{words}");
        assert_eq!(fs::read_dir(b.path(".pipeline/attempts")).unwrap().count(), 0, "{words}");
        assert_eq!(b.run(&[]).len(), 3, "{words}");
    };
    let change = |edit: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = good.clone();
        edit(&mut entries);
        packed(&bad, &entries);
    };
    for kind in ["blobs/", "trees/", "results/"] {
        change(&|e| e[at(kind)].1[3] ^= 1);
        refused("is damaged");
    }
    change(&|e| drop(e.remove(at("blobs/"))));
    refused("it lacks");
    change(&|e| drop(e.remove(0)));
    refused("not an archive of results");
    let victim = a.path("victim");
    for name in ["../../victim", "blobs/../../victim", victim.to_str().unwrap(), "results/../x", "hooks/run"]
    {
        change(&|e| e.push((name.to_string(), b"bad".to_vec())));
        refused(if name.starts_with("results") { "is damaged" } else { "does not belong into an archive" });
        assert!(!victim.exists());
    }
    fs::write(&bad, &fs::read(&path).unwrap()[..400]).unwrap();
    refused("damaged");
    fs::write(&bad, "no archive").unwrap();
    refused("not an archive of results");
    // And what was good still is.
    let b = Study::new(TOY);
    assert!(import(&b, &path).status.success() && b.run(&[]).is_empty());
}

#[test]
fn links_in_an_archive_are_refused() {
    let (a, _) = exported("toy");
    let bad = a.path("bad.tar.zst");
    let mut tar = tar::Builder::new(zstd::Encoder::new(fs::File::create(&bad).unwrap(), 0).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, format!("blobs/{}", "0".repeat(64)), "/etc/passwd").unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    let output = import(&Study::new(TOY), &bad);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn only_what_is_done_is_exported() {
    let study = Study::new(TOY);
    let output = study.call(&["export", "toy", "x.tar.zst"]);
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(2), "error: gen is not done; `pipeline run` first\n")
    );
    assert!(!study.exists("x.tar.zst"));
}

//! The shared cache: small files in packs, nothing sent twice, and caches that older runners filled.

use crate::study::{Study, TOY, said, stderr};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// 700 files of 1 KiB and a large one, in two folders; `word` is in one of them.
const MANY: &str = r#"name: many
stages:
  a:
    command: >
      sh -c 'echo a >> ran; mkdir -p $1/in; for i in $(seq 700); do printf "%01024d" $i > $1/in/$i; done; echo $2 > $1/in/350;
      yes large | head -c 900000 > $1/large; : > $1/empty' -- ${outputs.d} ${params.word}
    params: {word: one}
    outputs: [d]
"#;

/// Every object of a cache in a folder, with its content.
pub fn objects(cache: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![cache.to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(cache).unwrap().display().to_string();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// What is new in a cache.
fn added(before: &BTreeMap<String, Vec<u8>>, cache: &Path) -> Vec<(String, usize)> {
    let now = objects(cache).into_iter().filter(|(name, bytes)| before.get(name) != Some(bytes));
    now.map(|(name, bytes)| (name, bytes.len())).collect()
}

fn call(study: &Study, words: &[&str], cache: &Path) -> String {
    let output = study.call(&[words, &["--cache", cache.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", said(&output));
    assert!(!stderr(&output).contains("damaged"), "{}", said(&output));
    said(&output)
}

fn count(added: &[(String, usize)], kind: &str) -> usize {
    added.iter().filter(|(name, _)| name.starts_with(kind)).count()
}

#[test]
fn small_files_travel_in_packs_and_arrive_as_they_were() {
    let cache = tempfile::tempdir().unwrap();
    let (a, b) = (Study::new(MANY), Study::new(MANY));
    a.run(&[]);
    call(&a, &["push"], cache.path());
    let all = added(&BTreeMap::new(), cache.path());
    assert_eq!((count(&all, "v1/blobs"), count(&all, "v1/")), (1, 1), "{all:?}");
    assert!((1..=3).contains(&count(&all, "v2/packs")) && all.len() < 10, "{all:?}");
    call(&b, &["pull"], cache.path());
    for name in ["in/1", "in/350", "in/700", "large", "empty"] {
        assert_eq!(b.read(&format!("out/a/d/{name}")), a.read(&format!("out/a/d/{name}")), "{name}");
    }
    assert!(!b.exists("ran") && b.run(&[]).is_empty());
}

#[test]
fn nothing_is_sent_twice() {
    let cache = tempfile::tempdir().unwrap();
    let a = Study::new(MANY);
    a.run(&[]);
    call(&a, &["push"], cache.path());
    let before = objects(cache.path());
    call(&a, &["push"], cache.path());
    assert_eq!(added(&before, cache.path()), []);

    // One file is different: it is sent, with a list of the files and a record.
    a.run(&["--set", "a.word=two"]);
    call(&a, &["push", "--set", "a.word=two"], cache.path());
    let new = added(&before, cache.path());
    assert_eq!((count(&new, "v2/packs"), count(&new, "v1/blobs")), (0, 1), "{new:?}");
    let blob = new.iter().find(|(name, _)| name.starts_with("v1/blobs")).unwrap();
    assert_eq!(blob.1, "two\n".len());

    // Another stage with the same folder: a record.
    let before = objects(cache.path());
    let c = Study::new(&MANY.replace("  a:\n", "  z:\n").replace("echo a", "echo z"));
    c.run(&[]);
    call(&c, &["push"], cache.path());
    let new = added(&before, cache.path());
    assert_eq!((new.len(), count(&new, "v2/results")), (1, 1), "{new:?}");

    for (words, text) in [(vec!["pull"], "one\n"), (vec!["pull", "--set", "a.word=two"], "two\n")] {
        let b = Study::new(MANY);
        call(&b, &words, cache.path());
        assert_eq!(b.read("out/a/d/in/350"), text);
        assert_eq!(b.read("out/a/d/in/351"), a.read("out/a/d/in/351"));
        // The other one has most of its files.
        let other = if words.len() == 1 { vec!["pull", "--set", "a.word=two"] } else { vec!["pull"] };
        call(&b, &other, cache.path());
        assert_eq!(b.read("out/a/d/in/351"), a.read("out/a/d/in/351"));
    }
}

#[test]
fn two_machines_make_the_same_packs() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for cache in [&one, &other] {
        let study = Study::new(MANY);
        study.run(&[]);
        call(&study, &["push"], cache.path());
    }
    let contents = |cache: &Path| {
        let mut all = objects(cache);
        all.retain(|name, _| !name.starts_with("v2/results"));
        all
    };
    assert_eq!(contents(one.path()), contents(other.path()));
}

#[test]
fn a_push_that_was_killed_is_invisible_and_goes_on() {
    let cache = tempfile::tempdir().unwrap();
    let a = Study::new(MANY);
    a.run(&[]);
    call(&a, &["push"], cache.path());
    // Packs and blobs arrive first.
    for kind in ["results", "trees", "near"] {
        fs::remove_dir_all(cache.path().join("v2").join(kind)).unwrap();
        let b = Study::new(MANY);
        let found = b.call(&["pull", "--cache", cache.path().to_str().unwrap()]);
        assert!(said(&found).contains("not in the cache"), "{}", said(&found));
    }
    let before = objects(cache.path());
    call(&a, &["push"], cache.path());
    let new = added(&before, cache.path());
    assert_eq!((count(&new, "v2/packs"), count(&new, "v1/")), (0, 0), "{new:?}");
    let b = Study::new(MANY);
    call(&b, &["pull"], cache.path());
    assert_eq!(b.read("out/a/d/in/700"), a.read("out/a/d/in/700"));
}

/// A rule of the object store took a pack away that a later folder shares.
#[test]
fn a_pack_that_is_gone_is_made_again() {
    let cache = tempfile::tempdir().unwrap();
    let a = Study::new(MANY);
    a.run(&[]);
    call(&a, &["push"], cache.path());
    fs::remove_dir_all(cache.path().join("v2/packs")).unwrap();
    a.run(&["--set", "a.word=two"]);
    call(&a, &["push", "--set", "a.word=two"], cache.path());
    let b = Study::new(MANY);
    call(&b, &["pull", "--set", "a.word=two"], cache.path());
    assert_eq!(b.read("out/a/d/in/7"), a.read("out/a/d/in/7"));
}

/// Writes what a store has as runners did that knew no packs.
pub fn old_cache(store: &Path, cache: &Path) {
    let walk = |folder: &str, depth: usize| -> Vec<PathBuf> {
        let mut open = vec![store.join(folder)];
        for _ in 0..depth {
            open = open.iter().flat_map(|f| fs::read_dir(f).unwrap().map(|e| e.unwrap().path())).collect();
        }
        open
    };
    let put = |from: &Path, to: PathBuf| {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_string();
    for (kind, depth) in [("blobs", 2), ("trees", 2), ("results", 3)] {
        for path in walk(kind, depth) {
            let above = path.parent().unwrap();
            let to = match kind {
                "results" => Path::new(&name(above)[..2]).join(name(above)),
                _ => Path::new(&name(above)).join(name(&path).trim_end_matches(".x")),
            };
            put(&path, cache.join("v1").join(kind).join(to));
        }
    }
}

#[test]
fn a_cache_of_an_older_runner_is_read_and_added_to() {
    for yaml in [TOY, MANY] {
        let cache = tempfile::tempdir().unwrap();
        let a = Study::new(yaml);
        a.run(&[]);
        old_cache(&a.path(".pipeline"), cache.path());
        let before = objects(cache.path());
        assert!(before.keys().all(|name| name.starts_with("v1/")), "{:?}", before.keys());

        let b = Study::new(yaml);
        let plan = call(&b, &["plan"], cache.path());
        assert!(plan.contains("to fetch") && !plan.contains("to run"), "{plan}");
        call(&b, &["run"], cache.path());
        assert!(!b.exists("ran"), "{}", b.read("ran"));
        let pushed = call(&a, &["push"], cache.path());
        assert!(pushed.contains("in the cache already") && !pushed.contains("sent"), "{pushed}");
        assert_eq!(added(&before, cache.path()), []);

        // What is new is written as today.
        let set = if yaml == TOY { "gen.size=6" } else { "a.word=two" };
        a.run(&["--set", set]);
        call(&a, &["push", "--set", set], cache.path());
        let new = added(&before, cache.path());
        assert!(count(&new, "v2/results") > 0 && count(&new, "v1/results") == 0, "{new:?}");
        // A large file that was there is not sent again.
        assert!(
            new.iter().filter(|(name, _)| name.starts_with("v1/")).all(|(_, bytes)| *bytes < 1000),
            "{new:?}"
        );
        call(&Study::new(yaml), &["pull", "--set", set], cache.path());
    }
}

//! Archives and shared caches made by somebody who means harm: checksums and digests are right, what they say is not.

use crate::archive::{Entry, entries, exported, import, packed};
use crate::study::{Study, TOY, said, stderr};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// A line of a list of files: its path, and what stands there.
#[derive(Clone)]
enum Line {
    Folder(&'static str),
    File(&'static str, Vec<u8>),
    /// One that is said to have another size.
    Sized(&'static str, Vec<u8>, u64),
    Link(&'static str, String),
}

/// An encoded list of files, and the contents it names.
fn list(lines: &[Line]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut out, mut contents) = (Vec::new(), Vec::new());
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    for line in lines {
        match line {
            Line::Folder(path) => {
                out.push(b'd');
                text(&mut out, path);
            }
            Line::Link(path, target) => {
                out.push(b'l');
                text(&mut out, path);
                text(&mut out, target);
            }
            Line::File(path, bytes) | Line::Sized(path, bytes, _) => {
                out.push(b'f');
                text(&mut out, path);
                let size = if let Line::Sized(_, _, size) = line { *size } else { bytes.len() as u64 };
                out.extend(size.to_le_bytes());
                out.extend(blake3::hash(bytes).as_bytes());
                contents.push(bytes.clone());
            }
        }
    }
    (out, contents)
}

fn tree(list: &[u8]) -> String {
    blake3::Hasher::new_derive_key("pipeline 2026 manifest of a tree, version 1")
        .update(list)
        .finalize()
        .to_hex()
        .to_string()
}

fn record(value: &Value) -> Vec<u8> {
    let json = value.to_string();
    format!("{json}\n{}\n", blake3::hash(json.as_bytes()).to_hex()).into_bytes()
}

fn value(record: &[u8]) -> Value {
    serde_json::from_slice(record.split(|b| *b == b'\n').next().unwrap()).unwrap()
}

/// Whether an entry is the result of the stage `gen`, whose output `files` is a folder.
fn of_gen((name, bytes): &Entry) -> bool {
    name.starts_with("results/") && value(bytes)["action"]["stage"] == "gen"
}

/// Puts another folder in the place of gen's output, with sums that fit it.
fn with_folder(entries: &mut Vec<Entry>, lines: &[Line]) {
    let (list, contents) = list(lines);
    let size = |line: &Line| match line {
        Line::File(_, bytes) => bytes.len() as u64,
        Line::Sized(_, _, size) => *size,
        Line::Folder(_) | Line::Link(..) => 0,
    };
    let at = entries.iter().position(of_gen).unwrap();
    let mut outcome = value(&entries[at].1);
    let old = outcome["outputs"]["files"]["digest"].as_str().unwrap().replace("tree:", "trees/");
    outcome["outputs"]["files"] = json!({
        "digest": format!("tree:{}", tree(&list)),
        "bytes": lines.iter().map(size).fold(0, u64::wrapping_add),
        "files": contents.len(),
    });
    entries[at].1 = record(&outcome);
    entries.retain(|(name, _)| *name != old && !name.starts_with("blobs/"));
    entries.push((format!("trees/{}", tree(&list)), list));
    // What the other results name, and what the new list does.
    let others = [&b"3\n"[..], b"{\"n\": 3, \"weight\": 0.5}\n"].map(<[u8]>::to_vec);
    let mut blobs: Vec<Vec<u8>> = contents.into_iter().chain(others).collect();
    blobs.sort();
    blobs.dedup();
    entries.extend(blobs.into_iter().map(|b| (format!("blobs/{}", blake3::hash(&b).to_hex()), b)));
}

/// An archive that is refused with these words, and leaves nothing behind.
fn refused(archive: &Path, words: &str) {
    let study = Study::new(TOY);
    let output = import(&study, archive);
    assert_eq!(output.status.code(), Some(2), "{words}: {}", said(&output));
    let text = stderr(&output);
    assert!(text.contains(words) && text.contains("nothing was imported"), "{words}: {text}");
    assert!(text.lines().count() == 1 && !text.contains('\x1b'), "{text:?}");
    for folder in ["results", "blobs", "trees", "views", "runs"] {
        assert!(!study.exists(&format!(".pipeline/{folder}")), "{words}: {folder}");
    }
    assert_eq!(fs::read_dir(study.path(".pipeline/attempts")).unwrap().count(), 0, "{words}");
    assert_eq!(study.run(&[]).len(), 3, "{words}");
}

fn file(path: &'static str) -> Line {
    Line::File(path, b"x\n".to_vec())
}

#[test]
fn folders_that_lead_out_or_cannot_be_are_refused() {
    let (a, path) = exported("toy");
    let good = entries(&path);
    let bad = a.path("bad.tar.zst");
    let victim = tempfile::tempdir().unwrap();
    let out = victim.path().display().to_string();
    let long: &'static str = Box::leak("n".repeat(256).into_boxed_str());
    let link = |path, target: &str| Line::Link(path, target.into());
    let cases: Vec<(Vec<Line>, &str)> = vec![
        // Written through a link.
        (vec![link("e", &out), file("e/pwned")], "is no list of a folder"),
        (vec![file("e"), file("e/pwned")], "is no list of a folder"),
        (vec![file("e/pwned")], "is no list of a folder"),
        // Links that lead out, one by way of another.
        (vec![link("e", &out)], "leads out of the folder"),
        (vec![link("e", "../../..")], "leads out of the folder"),
        (vec![link("e", &format!("{}../../..", "./".repeat(1500)))], "leads out of the folder"),
        (
            vec![Line::Folder("d"), link("e", &format!("{}..", "d/../".repeat(600)))],
            "over more than 1000 names",
        ),
        (
            vec![Line::Folder("d"), Line::Folder("d/e"), link("d/e/r", "../.."), link("l", "d/e/r/..")],
            "leads out of the folder",
        ),
        // Names that no folder has.
        (vec![file("..")], "is no list of a folder"),
        (vec![file("a\0b")], "is no list of a folder"),
        (vec![file(long)], "is no list of a folder"),
        (vec![file("a"), file("a/")], "is no list of a folder"),
        (vec![file("a"), file("a")], "is no list of a folder"),
        // Sizes that are not.
        (vec![Line::Sized("a", b"x\n".to_vec(), 1)], "has another size than its list says"),
        (vec![Line::Sized("a", b"x\n".to_vec(), u64::MAX), file("b")], "larger than any disk"),
    ];
    for (lines, words) in cases {
        let mut forged = good.clone();
        with_folder(&mut forged, &lines);
        packed(&bad, &forged);
        refused(&bad, words);
    }
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0);
    // The same tools make an archive that is taken.
    let mut fine = good;
    with_folder(&mut fine, &[Line::Folder("d"), file("d/x"), link("l", "d/x"), link("nowhere", "gone")]);
    packed(&bad, &fine);
    let b = Study::new(TOY);
    assert!(import(&b, &bad).status.success());
    b.run(&["gen"]);
    assert_eq!(b.read("out/gen/files/l"), "x\n");
}

#[test]
fn records_that_say_what_is_not_are_refused() {
    let (a, path) = exported("run");
    let good = entries(&path);
    let bad = a.path("bad.tar.zst");
    let case = |edit: &dyn Fn(&mut Vec<Entry>), words: &str| {
        let mut forged = good.clone();
        edit(&mut forged);
        packed(&bad, &forged);
        refused(&bad, words);
    };
    let edit = |entries: &mut Vec<Entry>, what: &dyn Fn(&Entry) -> bool, edit: &dyn Fn(&mut Value)| {
        let at = entries.iter().position(what).unwrap();
        let mut outcome = value(&entries[at].1);
        edit(&mut outcome);
        entries[at].1 = record(&outcome);
    };
    let gen_is = |change: &dyn Fn(&mut Value), words: &str| case(&|e| edit(e, &of_gen, change), words);
    gen_is(&|o| o["outputs"]["files"]["bytes"] = json!(1), "the sums of its output");
    gen_is(&|o| o["outputs"]["files"]["files"] = json!(1), "the sums of its output");
    gen_is(&|o| o["outputs"] = json!({}), "its outputs are not those of its action");
    gen_is(&|o| o["action"]["stage"] = json!("other"), "is damaged");
    gen_is(&|o| o["accepted"] = json!("x"), "is damaged");
    let run = |entry: &Entry| entry.0 == "run";
    let run_is = |change: &dyn Fn(&mut Value), words: &str| case(&|e| edit(e, &run, change), words);
    run_is(&|r| r["stages"][0]["keys"] = json!(["x"]), "`run` is damaged");
    run_is(&|r| r["stages"][0]["keys"] = json!(["0".repeat(64)]), "that it does not bring");
    run_is(&|r| r["stages"][0]["keys"] = r["stages"][1]["keys"].clone(), "that it does not bring");
    run_is(&|r| r["stages"][0]["stage"] = json!("../../x"), "a name that no stage has");
    run_is(&|r| r["run"] = json!("../x"), "a name that no run has");
    // Contents and lists that nothing names; what stands twice or in another order; other sizes; headers of their own.
    let extra = |name: String, bytes: &[u8]| (name, bytes.to_vec());
    let blob = format!("blobs/{}", blake3::hash(b"more").to_hex());
    case(&|e| e.push(extra(blob.clone(), b"more")), "is named by no result");
    let (empty, _) = list(&[]);
    let at = |e: &[Entry], kind: &str| e.iter().position(|(name, _)| name.starts_with(kind)).unwrap();
    case(
        &|e| e.insert(at(e, "blobs/"), extra(format!("trees/{}", tree(&empty)), b"")),
        "is named by no result",
    );
    case(&|e| e.push(e[at(e, "blobs/")].clone()), "is there twice");
    case(&|e| e.push(e[at(e, "results/")].clone()), "does not belong into an archive");
    case(&|e| e.rotate_right(1), "not an archive of results");
    let longer = |e: &mut Vec<Entry>| {
        let blob = at(e, "blobs/");
        e[blob].1.push(b'x');
    };
    case(&longer, "has another size than its list says");
    case(&|e| e.push(extra("\u{1b}[2J".into(), b"")), "does not belong into an archive");
}

#[test]
fn a_header_that_is_long_is_not_read() {
    let study = Study::new(TOY);
    let bad = study.path("bad.tar.zst");
    let mut tar = tar::Builder::new(zstd::Encoder::new(fs::File::create(&bad).unwrap(), 0).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 29);
    header.set_cksum();
    tar.append(&header, std::io::Read::take(std::io::repeat(b'a'), 1 << 29)).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    // A name of half a gibibyte, in an archive of some KiB, with room for a quarter of it.
    let mut command = study.command(&["import", bad.to_str().unwrap()]);
    let room = libc::rlimit { rlim_cur: 1 << 27, rlim_max: 1 << 27 };
    // SAFETY: the closure makes one system call and touches no memory of ours.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, move || {
            libc::setrlimit(libc::RLIMIT_DATA, &raw const room);
            Ok(())
        })
    };
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

/// What a cache says of a folder: the packs, and where each of its contents lies in them.
fn index(list: &[u8], packs: &[([u8; 32], u64)], places: &[(u32, u32)]) -> Vec<u8> {
    let mut out = b"pipeline tree 2\n".to_vec();
    out.extend((list.len() as u64).to_le_bytes());
    out.extend(list);
    out.extend((packs.len() as u32).to_le_bytes());
    packs.iter().for_each(|(name, bytes)| {
        out.extend(name);
        out.extend(bytes.to_le_bytes());
    });
    places.iter().for_each(|(pack, start)| {
        out.extend(pack.to_le_bytes());
        out.extend(start.to_le_bytes());
    });
    let check = blake3::hash(&out);
    out.extend(check.as_bytes());
    out
}

/// What is wrong, what the cache says of a folder, and its pack.
type Case<'a> = (&'a str, Vec<u8>, Option<&'a [u8]>);

/// A cache whose packs are not what it says.
#[test]
fn forged_packs_are_not_used_and_leave_nothing() {
    let lines: Vec<Line> =
        ["0", "1", "2", "3", "4"].map(|n| Line::File(n, format!("file {n}\n").into_bytes())).into();
    let (list, contents) = list(&lines);
    let all = contents.concat();
    let whole = all.len() as u64;
    let name = [7; 32];
    let places: Vec<(u32, u32)> = (0..5).map(|i| (0, 7 * i)).collect();
    let packs = [(name, whole)];
    let mut other = all.clone();
    other[10] ^= 1;
    let same = vec![(0, 0); 5];
    let cases: [Case; 11] = [
        ("sound", index(&list, &packs, &places), Some(&all)),
        ("no pack", index(&list, &packs, &places), None),
        ("a pack cut off", index(&list, &packs, &places), Some(&all[..20])),
        ("an empty pack", index(&list, &packs, &places), Some(b"")),
        ("another content", index(&list, &packs, &places), Some(&other)),
        ("beyond the pack", index(&list, &[(name, 30)], &places), Some(&all)),
        (
            "beyond the object",
            index(&list, &[(name, 1 << 20)], &[(0, 1 << 19), (0, 7), (0, 14), (0, 21), (0, 28)]),
            Some(&all),
        ),
        ("one over the other", index(&list, &packs, &same), Some(&all)),
        ("a pack that no disk holds", index(&list, &[(name, u64::MAX)], &places), Some(&all)),
        ("in no pack", index(&list, &packs, &[(1, 0), (0, 7), (0, 14), (0, 21), (0, 28)]), Some(&all)),
        ("too short", index(&list, &packs, &places[..4]), Some(&all)),
    ];
    for (what, told, pack) in cases {
        let (folder, _) = cache();
        let tree = tree(&list);
        let place = |kind: &str, hex: &str| folder.path().join(kind).join(&hex[..2]).join(&hex[2..]);
        assert!(place("v2/trees", &tree).is_file(), "the folder of gen is this one");
        fs::write(place("v2/trees", &tree), told).unwrap();
        fs::remove_dir_all(folder.path().join("v2/packs")).unwrap();
        let at = place("v2/packs", &blake3::Hash::from_bytes(name).to_hex());
        if let Some(pack) = pack {
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, pack).unwrap();
        }
        let b = Study::new(TOY);
        let pull = b.call(&["pull", "gen", "--cache", folder.path().to_str().unwrap()]);
        assert_eq!(pull.status.code(), Some(0), "{what}: {}", said(&pull));
        assert_eq!(
            stderr(&pull).contains("damaged or missing v2/"),
            what != "sound",
            "{what}: {}",
            said(&pull)
        );
        assert_eq!(b.exists("out/gen/files"), what == "sound", "{what}");
        assert_eq!(fs::read_dir(b.path(".pipeline/attempts")).map_or(0, Iterator::count), 0, "{what}");
        let b = Study::new(TOY);
        let run = b.run(&["--cache", folder.path().to_str().unwrap()]);
        assert_eq!(run.contains(&"gen".to_string()), what != "sound", "{what}");
        assert_eq!(b.read("out/gen/files/4"), "file 4\n", "{what}");
        // What was damaged is good again.
        let c = Study::new(TOY);
        let pull = c.call(&["pull", "--cache", folder.path().to_str().unwrap()]);
        assert!(pull.status.success() && !stderr(&pull).contains("damaged"), "{what}: {}", said(&pull));
        assert_eq!(c.read("out/gen/files/3"), "file 3\n", "{what}");
    }
}

/// The cache that a study filled, as a folder.
fn cache() -> (tempfile::TempDir, Vec<(PathBuf, Vec<u8>)>) {
    let folder = tempfile::tempdir().unwrap();
    let a = Study::new(TOY);
    a.run(&["--cache", folder.path().to_str().unwrap()]);
    let mut records = Vec::new();
    for two in fs::read_dir(folder.path().join("v2/results")).unwrap() {
        for file in fs::read_dir(two.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            records.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    assert_eq!(records.len(), 3);
    (folder, records)
}

#[test]
fn a_forged_cache_is_not_used() {
    let victim = tempfile::tempdir().unwrap();
    let out = victim.path().display().to_string();
    let lists: [&[Line]; 3] = [
        &[Line::Link("e", out.clone()), file("e/pwned")],
        &[Line::Link("e", out.clone())],
        &[Line::Sized("a", b"x\n".to_vec(), u64::MAX)],
    ];
    let forge = |outcome: &mut Value, case: usize, folder: &Path, old: bool| {
        let Some(lines) = lists.get(case) else {
            match case {
                3 => outcome["outputs"] = json!({}),
                4 => outcome["outputs"]["files"]["bytes"] = json!(u64::MAX),
                _ => outcome["outputs"]["files"]["digest"] = json!("0".repeat(64)),
            }
            return;
        };
        let (list, contents) = list(lines);
        let put = |kind: &str, hex: String, bytes: &[u8]| {
            let path = folder.join(kind).join(&hex[..2]).join(&hex[2..]);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        match old {
            true => put("v1/trees", tree(&list), &list),
            false => put("v2/trees", tree(&list), &index(&list, &[], &vec![(u32::MAX, 0); contents.len()])),
        }
        contents.iter().for_each(|bytes| put("v1/blobs", blake3::hash(bytes).to_hex().to_string(), bytes));
        let bytes: u64 = if case == 2 { u64::MAX } else { contents.iter().map(|c| c.len() as u64).sum() };
        outcome["outputs"]["files"] =
            json!({"digest": format!("tree:{}", tree(&list)), "bytes": bytes, "files": contents.len()});
    };
    for (case, old) in (0..6).flat_map(|case| [(case, false), (case, true)]) {
        let (folder, records) = cache();
        let (path, bytes) = records.iter().find(|(_, b)| value(b)["action"]["stage"] == "gen").unwrap();
        let mut outcome = value(bytes);
        forge(&mut outcome, case, folder.path(), old);
        fs::write(path, record(&outcome)).unwrap();
        if old {
            // As an older runner writes it.
            let there = folder.path().join("v1").join(path.strip_prefix(folder.path().join("v2")).unwrap());
            fs::create_dir_all(there.parent().unwrap()).unwrap();
            fs::rename(path, there).unwrap();
        }
        for command in ["plan", "pull", "run"] {
            let b = Study::new(TOY);
            let output = b.call(&[command, "--cache", folder.path().to_str().unwrap()]);
            assert_eq!(output.status.code(), Some(0), "{case} {command}: {}", said(&output));
            assert!(stderr(&output).contains("damaged or missing"), "{case} {command}: {}", said(&output));
            if command == "run" {
                assert_eq!(b.read("ran").lines().next(), Some("gen"), "{case}");
                assert_eq!(b.read("out/gen/files/4"), "file 4\n", "{case}");
            }
        }
    }
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0);
}

#[test]
fn a_record_that_cannot_be_used_is_a_miss() {
    let study = Study::new(TOY);
    study.run(&[]);
    for two in fs::read_dir(study.path(".pipeline/results")).unwrap() {
        for key in fs::read_dir(two.unwrap().path()).unwrap() {
            let path = key.unwrap().path().join("000000.json");
            let mut outcome = value(&fs::read(&path).unwrap());
            outcome["outputs"] = json!({});
            fs::write(&path, record(&outcome)).unwrap();
        }
    }
    assert_eq!(study.run(&[]), ["gen", "count", "score"]);
}

//! What every stage program refuses at its outputs, for the tests of each.

#![allow(dead_code, reason = "each test program that includes this file uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every file and link below a folder, with its content or where it leads.
pub fn everything(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            found.insert(path.clone(), fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
        } else if path.is_dir() {
            found.extend(everything(&path));
            found.insert(path, Vec::new());
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// Exit code 2, one line with these words, and below `folder` nothing has changed.
pub fn refuses(folder: &Path, mut command: Command, words: &[&str]) {
    let before = everything(folder);
    let output = command.env_remove("PIPELINE_STATE").env_remove("PIPELINE_EVENTS").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{command:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{command:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{command:?}: {word} is not in: {text}");
    }
    let after = everything(folder);
    let changed: Vec<_> =
        before.keys().chain(after.keys()).filter(|k| before.get(*k) != after.get(*k)).collect();
    assert!(changed.is_empty(), "{command:?} has changed {changed:?}");
}

/// Ends well, by hand.
pub fn succeeds(mut command: Command) -> String {
    let output = command.env_remove("PIPELINE_STATE").env_remove("PIPELINE_EVENTS").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// What no program replaces, at an output that is a folder. `command` writes it to the path that it is given.
pub fn keeps_folders(folder: &Path, flag: &str, command: impl Fn(&Path) -> Command) {
    let at = |name: &str| folder.join(format!("{}-{name}", flag.trim_start_matches('-')));
    fs::create_dir(at("mine")).unwrap();
    fs::create_dir_all(at("deep").join("thesis")).unwrap();
    fs::write(at("mine").join("notes.txt"), "mine").unwrap();
    fs::write(at("deep").join("thesis/notes.txt"), "mine").unwrap();
    fs::write(at("file"), "mine").unwrap();
    fs::write(at("empty"), "").unwrap();
    symlink(at("mine"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    refuses(folder, command(&at("mine")), &[flag, "holds notes.txt, which", "name another place"]);
    refuses(folder, command(&at("deep")), &[flag, "holds thesis, which", "name another place"]);
    refuses(folder, command(&at("file")), &[flag, "a file, where"]);
    refuses(folder, command(&at("empty")), &[flag, "a file, where"]);
    refuses(folder, command(&at("link")), &[flag, "a link, to"]);
    refuses(folder, command(&at("link").join("")), &[flag, "a link, to"]);
    refuses(folder, command(&at("dangling")), &[flag, "a link, to"]);
    refuses(folder, command(&at("mine").join("notes.txt/below")), &[flag]);
    refuses(folder, command(Path::new("..")), &[flag]);
}

/// What no program replaces, at an output that is a file.
pub fn keeps_files(folder: &Path, flag: &str, ending: &str, command: impl Fn(&Path) -> Command) {
    let at = |name: &str| folder.join(format!("{}-{name}{ending}", flag.trim_start_matches('-')));
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("mine"), "mine").unwrap();
    fs::write(at("numbers"), "{\"mine\": 1}\n").unwrap();
    symlink(at("mine"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    refuses(folder, command(&at("mine")), &[flag, "a file that", "did not make", "name another place"]);
    refuses(folder, command(&at("numbers")), &[flag, "a file that", "did not make"]);
    refuses(folder, command(&at("folder")), &[flag, "a folder, where"]);
    refuses(folder, command(&at("link")), &[flag, "a link, to"]);
    refuses(folder, command(&at("dangling")), &[flag, "a link, to"]);
    refuses(folder, command(Path::new("..")), &[flag]);
}

/// An output that is, lies in or holds an input.
pub fn stands_apart(folder: &Path, flag: &str, input: &Path, command: impl Fn(&Path) -> Command) {
    let link = folder.join(format!("{}-to-input", flag.trim_start_matches('-')));
    symlink(input, &link).unwrap();
    refuses(folder, command(input), &[flag, "is --"]);
    refuses(folder, command(&link), &[flag, "is --"]);
    refuses(folder, command(folder), &[flag, "holds --"]);
    if input.is_dir() {
        refuses(folder, command(&input.join("new/deep")), &[flag, "lies in --"]);
        refuses(folder, command(&link.join("new")), &[flag, "lies in --"]);
    }
}

//! Pages whose commands are run as they stand, as somebody who copies them would.

use super::docs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// A fenced block of a page: its language with what follows it, and its text.
pub fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in page.lines() {
        match (line.strip_prefix("```"), open) {
            (Some(language), false) => blocks.push((language.to_string(), String::new())),
            (None, true) => {
                let (_, text) = blocks.last_mut().unwrap();
                text.push_str(line);
                text.push('\n');
            }
            _ => {}
        }
        open ^= line.starts_with("```");
    }
    assert!(!open, "a block does not end");
    blocks
}

/// Whether a line is as a page has it, where `…` stands for anything.
fn like(line: &str, pattern: &str) -> bool {
    let mut parts = pattern.trim_end().split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.trim_end().strip_prefix(first)) else {
        return false;
    };
    let mut open = false;
    for part in parts {
        open = true;
        let Some(place) = rest.find(part) else { return false };
        rest = &rest[place + part.len()..];
    }
    rest.is_empty() || open && pattern.trim_end().ends_with('…')
}

#[test]
fn an_ellipsis_stands_for_anything() {
    assert!(like("a took 3 s", "a took … s") && like("a", "a") && like("ab", "a…") && like("ab", "…b"));
    assert!(!like("a took 3 ms", "a took … s!") && !like("ab", "a") && !like("b", "a…"));
}

/// Runs a page in an empty folder as somebody who copies it: `sh` is typed, `FORMAT file=NAME` is saved, and every line of
/// the `text` behind a command is among what the command says.
fn follow(page: &str, path: &str) {
    let folder = tempfile::tempdir().unwrap();
    follow_in(folder.path(), page, path, &[]);
}

/// The same in a folder that holds something already, with variables.
pub fn follow_in(folder: &Path, page: &str, path: &str, variables: &[(&str, &Path)]) {
    let text = fs::read_to_string(docs(page)).unwrap();
    let mut said = None;
    let mut typed = 0;
    for (language, text) in blocks(&text) {
        if let Some((_, name)) = language.split_once(" file=") {
            let file = folder.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        } else if language == "sh" {
            let mut shell = Command::new("bash");
            shell.args(["-euo", "pipefail", "-c", &text]).current_dir(folder);
            shell.env("PATH", path).env("HOME", folder).envs(variables.iter().copied());
            let output = shell.output().unwrap();
            let words = [&output.stdout[..], &output.stderr[..]].concat();
            let words = String::from_utf8_lossy(&words).into_owned();
            assert!(output.status.success(), "docs/{page}:\n{text}\n{words}");
            said = Some(words);
            typed += 1;
        } else if language == "text" {
            let words = said.as_ref().unwrap_or_else(|| panic!("docs/{page}: an answer to no command"));
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                assert!(
                    words.lines().any(|word| like(word, line)),
                    "docs/{page} says\n{line}\nbut it is\n{words}"
                );
            }
        }
    }
    assert!(typed > 0, "docs/{page} has nothing to type");
}

/// `PATH` with the runner first.
pub fn path() -> String {
    let runner = Path::new(env!("CARGO_BIN_EXE_pipeline")).parent().unwrap();
    format!("{}:{}", runner.display(), env::var("PATH").unwrap())
}

/// Pages that take nothing but the runner.
const ALONE: [&str; 9] = [
    "begin/first-study.md",
    "how-to/gpus.md",
    "how-to/clusters.md",
    "how-to/shared-cache.md",
    "how-to/resume.md",
    "how-to/publish.md",
    "how-to/clean-up.md",
    "how-to/moving.md",
    "why/determinism.md",
];
/// Pages that take the stages as well, or what else has to be installed.
const MORE: [&str; 7] = [
    "begin/digits.md",
    "begin/pictures.md",
    "begin/checkpoint.md",
    "begin/python.md",
    "how-to/by-hand.md",
    "how-to/checkpoints.md",
    "how-to/slurm.md",
];

#[test]
fn pages_of_the_runner_can_be_followed() {
    std::thread::scope(|scope| {
        let pages: Vec<_> = ALONE.map(|page| (page, scope.spawn(move || follow(page, &path())))).into();
        let failed: Vec<&str> =
            pages.into_iter().filter_map(|(page, run)| run.join().is_err().then_some(page)).collect();
        assert!(failed.is_empty(), "{failed:?}");
    });
}

/// The lines of a terminal in `docs/cast.svg`.
fn cast() -> Vec<String> {
    let text = fs::read_to_string(docs("cast.svg")).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("<text"));
    let plain = lines.map(|line| {
        let words: String =
            line.split('<').filter_map(|piece| piece.split_once('>').map(|(_, text)| text)).collect();
        words
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&#x27;", "'")
            .replace("&amp;", "&")
    });
    plain.collect()
}

/// A line of a run without the time that it took, and the room that this took.
fn timeless(line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let unit = |word: Option<&&str>| word.is_some_and(|word| ["s", "ms", "min"].contains(word));
    let kept = words.iter().enumerate().filter(|(i, word)| {
        let number = word.parse::<f64>().is_ok() && unit(words.get(i + 1));
        !number && !unit(Some(*word))
    });
    kept.map(|(_, word)| word.to_string()).collect()
}

#[test]
fn the_picture_of_a_terminal_is_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = Vec::new();
    for line in cast() {
        if let Some(command) = line.strip_prefix("$ ") {
            let mut shell = Command::new("bash");
            shell.args(["-c", command]).current_dir(folder.path()).env("PATH", path());
            let output = shell.output().unwrap();
            assert!(output.status.success(), "{command}");
            let words = [&output.stdout[..], &output.stderr[..]].concat();
            said.extend(String::from_utf8_lossy(&words).lines().map(timeless));
        } else {
            assert!(said.contains(&timeless(&line)), "docs/cast.svg says {line}, which is none of {said:?}");
        }
    }
    assert!(said.len() > 10, "{said:?}");
}

/// What is to be typed is typed by a test: no page of these kinds has an `sh` block and is in neither list.
#[test]
fn no_page_is_left_out() {
    for folder in ["begin", "how-to", "reference", "why"] {
        for entry in fs::read_dir(docs(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            let Ok(text) = fs::read_to_string(&entry) else { continue };
            let page = format!("{folder}/{}", entry.file_name().unwrap().to_str().unwrap());
            let typed = blocks(&text).iter().any(|(language, _)| language == "sh");
            let listed = ALONE.contains(&page.as_str()) || MORE.contains(&page.as_str());
            assert_eq!(typed, listed, "docs/{page}");
        }
    }
}

/// The digits study, small, in `folder`, as if `ci/build` had made the programs there.
fn digits(folder: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::os::unix::fs::symlink(root.join("data"), folder.join("data")).unwrap();
    let text = fs::read_to_string(root.join("pipeline.yaml")).unwrap();
    let (head, rest) = text.split_once("\nbuild:").unwrap();
    let (_, stages) = rest.split_once("\nstages:").unwrap();
    let mut stages = stages.to_string();
    for (full, small) in [
        ("iterations: 2000", "iterations: 20"),
        ("checkpoint-every: 250", "checkpoint-every: 10"),
        ("images: 1000", "images: 50"),
        ("steps: 50", "steps: 5"),
    ] {
        assert!(stages.contains(full), "{full}");
        stages = stages.replace(full, small);
    }
    fs::write(folder.join("pipeline.yaml"), format!("{head}\nstages:{stages}")).unwrap();
    for (program, script) in
        [("ci/build", "#!/bin/sh\n"), ("target/release/pipeline", "#!/bin/sh\nexec pipeline \"$@\"\n")]
    {
        let program = folder.join(program);
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    path()
}

#[test]
#[ignore = "needs the programs; ci/study calls it"]
fn pages_of_the_digits_can_be_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = digits(folder.path());
    // Each goes on where the first has left the study.
    for page in ["begin/digits.md", "begin/checkpoint.md", "how-to/by-hand.md", "how-to/checkpoints.md"] {
        follow_in(folder.path(), page, &path, &[]);
    }
}

/// Pictures that differ, as files that need no library: 20 of each of two classes.
fn photos(folder: &Path) {
    for (class, tone) in [("cat", 0), ("dog", 120)] {
        let of_class = folder.join("photos").join(class);
        fs::create_dir_all(&of_class).unwrap();
        for i in 0..20 {
            let mut file = b"P6\n48 40\n255\n".to_vec();
            for place in 0..48 * 40 {
                let (x, y) = (place % 48, place / 48);
                file.extend([tone + 5 * i, x * (1 + i % 4), y * (1 + i % 5)].map(|v: usize| (v % 256) as u8));
            }
            fs::write(of_class.join(format!("{i:02}.ppm")), file).unwrap();
        }
    }
}

#[test]
#[ignore = "needs the programs; ci/study calls it"]
fn the_page_of_ones_own_pictures_can_be_followed() {
    let folder = tempfile::tempdir().unwrap();
    photos(folder.path());
    let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
    follow_in(folder.path(), "begin/pictures.md", &path(), &[("CLONE", clone)]);
}

#[test]
#[ignore = "wants scikit-learn in JUDGE_PYTHON; ci/study calls it"]
fn the_python_study_can_be_followed() {
    let python = PathBuf::from(env::var_os("JUDGE_PYTHON").unwrap_or_else(|| "python3".into()));
    let own = python.parent().filter(|p| !p.as_os_str().is_empty()).map(|p| format!("{}:", p.display()));
    follow("begin/python.md", &format!("{}{}", own.unwrap_or_default(), path()));
}

//! What is refused before any work, and what is known as an earlier output.

use super::*;
use crate::{Context as Handle, Layout, exit_code};
use std::os::unix::fs::symlink;

const STATE: Layout = Layout::of(&["made-by", "part-#"]);
const SHARDS: Known<Args> = Known::Folder(Layout::of(&["manifest.json", "#.parquet"]));
const SCORES: Known<Args> = Known::File(|_, path| Ok(fs::read(path)?.starts_with(b"{")));

crate::arguments! {
    /// Make things.
    pub struct Args: "make", state STATE {
        /// Pictures.
        input images: Option<PathBuf>;
        /// More of them.
        input more: Vec<PathBuf> = vec![];
        /// Shards.
        output shards: Option<PathBuf>, known SHARDS;
        /// Scores.
        output scores: Option<PathBuf>, known SCORES;
    }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn fill(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// Every file with its content.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    walk(&path, found);
                }
                let content = fs::read(&path).unwrap_or_default();
                found.push((path, content));
            }
        }
        let mut found = Vec::new();
        walk(self.0.path(), &mut found);
        found.sort();
        found
    }

    /// Checks a command line `--flag name …`; names are below the folder.
    fn check(&self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let given: Vec<(&str, String)> = words
            .chunks(2)
            .map(|pair| (&pair[0][2..], self.path(pair[1]).display().to_string() + tail(pair[1])))
            .collect();
        let spec = Args::spec();
        let values = Values::new(&spec, given.iter().map(|(name, text)| (*name, text.as_str()))).unwrap();
        let state = Handle::state_of(&spec, &values, STATE);
        let args = Args::from_values(&values).unwrap();
        // A program would read them; here only the contract does.
        let _ = (&args.images, &args.more, &args.shards, &args.scores);
        check(&args, &spec, &values, Some(&state), None)
    }

    /// Refused with these words, and nothing is changed.
    fn refused(&self, line: &str, words: &[&str]) {
        let before = self.everything();
        let error = self.check(line).expect_err(line);
        let text = format!("{error:#}");
        assert_eq!(exit_code(&error), 2, "{text}");
        for word in words {
            assert!(text.contains(word), "{line}: {word} is not in: {text}");
        }
        assert!(!text.contains('\n'));
        assert!(self.everything() == before, "{line} has changed something");
    }
}

/// A slash at the end of a name, which joining takes away.
fn tail(name: &str) -> &str {
    if name.ends_with('/') { "/" } else { "" }
}

#[test]
fn what_is_not_an_earlier_output_is_refused() {
    let place = Place::new();
    place.fill("results/notes.txt", "mine");
    place.fill("ours/manifest.json", "{}");
    place.fill("ours/00000.parquet", "x");
    place.fill("mixed/manifest.json", "{}");
    place.fill("mixed/deep/thesis.txt", "mine");
    place.fill("scores.json", "{}");
    place.fill("notes.txt", "mine");
    place.fill("nothing", "");
    fs::create_dir(place.path("empty")).unwrap();
    for line in [
        "--shards new",
        "--shards empty",
        "--shards ours",
        "--shards ours/",
        "--scores scores.json",
        "--scores nothing",
        "--scores a/b/c",
    ] {
        place.check(line).unwrap();
    }
    place.refused("--shards results", &["--shards", "results", "holds notes.txt", "name another place"]);
    place.refused("--shards mixed", &["holds deep"]);
    place.refused("--shards nothing", &["a file, where make makes a folder"]);
    place.refused("--shards notes.txt/x", &["--shards"]);
    place.refused("--scores notes.txt", &["--scores", "a file that make did not make"]);
    place.refused("--scores empty", &["a folder, where make makes a file"]);
    place.refused("--scores ..", &["ends in no name"]);
}

#[test]
fn links_are_never_replaced() {
    let place = Place::new();
    place.fill("ours/manifest.json", "{}");
    place.fill("scores.json", "{}");
    symlink(place.path("ours"), place.path("to-folder")).unwrap();
    symlink(place.path("scores.json"), place.path("to-file")).unwrap();
    symlink(place.path("nowhere"), place.path("dangling")).unwrap();
    for line in [
        "--shards to-folder",
        "--shards to-folder/",
        "--shards dangling",
        "--shards dangling/",
        "--scores to-file",
        "--scores dangling",
    ] {
        place.refused(line, &["a link, to "]);
    }
    // On the way to an output they lead where they lead.
    place.check("--shards to-folder/../other").unwrap();
}

#[test]
fn outputs_stand_apart_from_inputs_and_each_other() {
    let place = Place::new();
    place.fill("data/a/00000.parquet", "x");
    place.fill("data/manifest.json", "{}");
    symlink(place.path("data"), place.path("link")).unwrap();
    place.fill("one.json", "{}");
    fs::hard_link(place.path("one.json"), place.path("two.json")).unwrap();
    for (line, words) in [
        ("--images data --shards data", ["--shards", "is --images"]),
        ("--images data --shards link/a", ["--shards", "lies in --images"]),
        ("--images link --shards data/new/deep", ["--shards", "lies in --images"]),
        ("--images data/a --shards data", ["--shards", "holds --images"]),
        ("--more other,data --images data/a --shards data/new", ["--more", "no such file"]),
        ("--images one.json --scores two.json", ["--scores", "is --images"]),
        ("--shards new --scores new", ["--scores", "is --shards"]),
        ("--shards new --scores new/scores.json", ["--scores", "lies in --shards"]),
        ("--shards new/deep --scores new", ["--scores", "holds --shards"]),
        ("--shards new --scores new.state", ["the state folder", "is --scores"]),
        ("--shards new --scores .new.staged", ["is made", "is --scores"]),
    ] {
        place.refused(line, &words);
    }
    place.refused("--images missing --shards new", &["--images", "missing: no such file or folder"]);
    place.check("--images data/a --shards data2 --scores scores.json").unwrap();
}

#[test]
fn a_state_folder_of_somebody_else_is_not_touched() {
    let place = Place::new();
    place.fill("new.state/part-1", "x");
    place.check("--shards new").unwrap();
    place.fill("new.state/thesis.txt", "mine");
    place.refused("--shards new", &["new.state", "holds thesis.txt"]);
    place.fill("other.state/made-by", "train\n");
    place.refused("--shards other", &["other.state", "train"]);
    place.fill("other.state/made-by", "makes\n");
    place.refused("--shards other", &["other.state", "makes"]);
    place.fill("third.state", "mine");
    place.refused("--shards third", &["third.state", "no folder"]);
    place.fill(".fourth.staged/new", "mine");
    place.refused("--shards fourth", &[".fourth.staged"]);
}

#[test]
fn only_events_are_appended_to() {
    let place = Place::new();
    place.fill("events", "{\"event\":\"message\",\"text\":\"x\"}\n");
    ours(&place.path("events")).unwrap();
    ours(&place.path("missing")).unwrap();
    place.fill("notes", "mine\n");
    assert_eq!(exit_code(&ours(&place.path("notes")).unwrap_err()), 2);
}

#[test]
fn a_state_of_a_run_killed_at_any_moment_is_gone_on_from() {
    let place = Place::new();
    let state = || State::new(place.path("new.state"), "make", STATE, true);
    // A mark and a part that have no content yet, and a part that has its place while its folder is being removed.
    for mark in ["", "ma", "make", "make\n"] {
        place.fill("new.state/made-by", mark);
        place.fill("new.state/part-1", "x");
        fs::create_dir_all(place.path("new.state/.part-1.staged")).unwrap();
        fs::create_dir_all(place.path("new.state/.part-2.staged")).unwrap();
        place.fill("new.state/.part-2.staged/made-by", "");
        state().check().unwrap();
        state().make().unwrap();
        assert_eq!(state().remove().unwrap(), None, "{mark:?}");
        assert!(!place.path("new.state").exists(), "{mark:?}");
    }
    // A folder that is empty under another name is somebody's.
    fs::create_dir_all(place.path("new.state/notes")).unwrap();
    assert!(state().check().is_err());
}

#[test]
fn state_goes_after_success_but_for_what_is_not_ours() {
    let place = Place::new();
    let state = || State::new(place.path("new.state"), "make", STATE, true);
    state().make().unwrap();
    place.fill("new.state/part-1", "x");
    state().check().unwrap();
    assert_eq!(state().remove().unwrap(), None);
    assert!(place.everything().is_empty());

    state().make().unwrap();
    place.fill("new.state/thesis.txt", "mine");
    assert_eq!(state().remove().unwrap(), Some("thesis.txt".into()));
    assert!(place.path("new.state/thesis.txt").exists());

    // Never made by this run or one before it: nobody's business.
    place.fill("theirs.state/part-1", "mine");
    assert_eq!(State::new(place.path("theirs.state"), "make", STATE, true).remove().unwrap(), None);
    assert!(place.path("theirs.state/part-1").exists());

    // Killed while it was removed.
    place.fill(".killed.state.finished/made-by", "make\n");
    place.fill(".killed.state.finished/part-1", "x");
    State::new(place.path("killed.state"), "make", STATE, true).check().unwrap();
    assert!(!place.path(".killed.state.finished").exists());
}

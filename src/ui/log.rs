//! Logs by ranges: what a browser shows of a log of any length.

use crate::cache::metrics::parse;
use crate::cache::places::Places;
use crate::text::last_lines;
use crate::ui::slug::slug;
use serde_json::{Value, json};
use stage::Event;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use store::{Area, Store};

/// So much is given at a time, backwards and at first.
const PIECE: u64 = 64 << 10;
/// So much at most from where a browser is.
const MOST: u64 = 256 << 10;

/// Which part of a log is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    End(u64),
    From(u64),
    Before(u64),
}

impl Part {
    /// As a query asks.
    pub fn asked(from: Option<u64>, before: Option<u64>) -> Self {
        match (from, before) {
            (Some(from), _) => Self::From(from),
            (None, Some(before)) => Self::Before(before),
            (None, None) => Self::End(PIECE),
        }
    }

    /// What of a log is written to files.
    pub fn exported() -> Self {
        Self::End(MOST)
    }
}

/// A file of the logs of a run, by the names that the page has for them. Nothing that is asked for becomes part of a path.
pub fn find(store: &Store, run: &str, file: &str) -> Option<PathBuf> {
    let named = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).map(str::to_string);
    let folder = store.list(Area::Logs).into_iter().find(|path| named(path).as_deref() == Some(run))?;
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let mut files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let ours = |name: &str| name.ends_with(".log") || name.ends_with(".events");
    files.find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (ours(&name) && slug(&name) == file).then(|| entry.path())
    })
}

/// A part of a log.
pub fn read(path: &Path, part: Part) -> std::io::Result<Value> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let (from, to) = match part {
        Part::End(most) => (size.saturating_sub(most), size),
        Part::From(from) => (from.min(size), size.min(from.saturating_add(MOST))),
        Part::Before(before) => (before.min(size).saturating_sub(PIECE), before.min(size)),
    };
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(to - from).read_to_end(&mut bytes)?;
    let (mut first, mut last) = (0, bytes.len());
    // Whole lines, where there are line ends: a piece begins and ends with one.
    if from > 0 && !matches!(part, Part::From(_)) {
        first = bytes.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
    }
    if matches!(part, Part::From(_)) || to < size {
        last = bytes.iter().rposition(|b| *b == b'\n').map_or(last, |at| at + 1);
    }
    if first >= last {
        (first, last) = (0, bytes.len());
    }
    let text = String::from_utf8_lossy(&bytes[first..last]);
    let lossy = matches!(text, std::borrow::Cow::Owned(_));
    let events = path.extension().is_some_and(|ending| ending == "events");
    let text = if events { said(&text) } else { text.into_owned() };
    let text = Places::beside(path).shown(&text);
    let (from, to) = (from + first as u64, from + last as u64);
    Ok(json!({ "from": from, "to": to, "size": size, "text": text, "lossy": lossy }))
}

/// The last lines of a log that say something, at most so many.
pub fn last(path: &Path, most: usize) -> Vec<String> {
    let places = Places::beside(path);
    last_lines(path, most).iter().map(|line| places.shown(line)).collect()
}

/// What a stage reported, as lines for people.
pub fn said(events: &str) -> String {
    let line = |line: &str| match parse(line.as_bytes()).ok()? {
        Event::Message { text } => Some(text + "\n"),
        Event::Metrics { step, values } => {
            let values = values.iter().filter(|(name, _)| *name != "step");
            let words: Vec<String> = values.map(|(name, value)| format!("{name} {value}")).collect();
            Some(format!("step {step}: {}\n", words.join(", ")))
        }
        Event::Facts { values } => {
            let words: Vec<String> = values.iter().map(|(name, value)| format!("{name} {value}")).collect();
            Some(format!("runs with {}\n", words.join(", ")))
        }
        Event::Progress { .. } => None,
    };
    events.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn a_log_is_read_in_whole_lines_from_either_end_without_a_gap() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let mut whole = String::new();
        for i in 0..40_000 {
            writeln!(whole, "line {i}").unwrap();
        }
        std::fs::write(&path, &whole).unwrap();
        let number = |value: &Value, name: &str| value[name].as_u64().unwrap();
        let mut piece = read(&path, Part::asked(None, None)).unwrap();
        assert_eq!(number(&piece, "to"), whole.len() as u64);
        let mut back = piece["text"].as_str().unwrap().to_string();
        while number(&piece, "from") > 0 {
            piece = read(&path, Part::asked(None, Some(number(&piece, "from")))).unwrap();
            back.insert_str(0, piece["text"].as_str().unwrap());
        }
        assert!(back == whole);
        let (mut at, mut forth) = (0, String::new());
        while at < whole.len() as u64 {
            let piece = read(&path, Part::From(at)).unwrap();
            forth += piece["text"].as_str().unwrap();
            at = number(&piece, "to");
        }
        assert!(forth == whole);
        assert_eq!(read(&path, Part::From(u64::MAX)).unwrap()["text"], "");
    }

    #[test]
    fn no_name_leads_out_of_the_logs() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "s").unwrap();
        let log = store.log("r", "score[a b]");
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        std::fs::write(&log, "x").unwrap();
        std::fs::write(store.journal("r"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", log.with_file_name("link.log")).unwrap();
        assert_eq!(find(&store, "r", &slug("score[a b].log")), Some(log));
        for (run, file) in
            [("..", "format"), ("r", "run.jsonl"), ("r", "link.log"), ("r", "../r/x"), ("", "")]
        {
            assert_eq!(find(&store, run, file), None, "{run}/{file}");
        }
    }
}

//! The curves of a task that has not ended: of the lines that it has written so far. Half a line is none.

use crate::ui::curves::{Curve, Lines, Numbers, measured, values};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use store::{Key, Store};

/// So many files are followed; of more, those that were asked for last.
const FOLLOWED: usize = 64;
/// So many files of a folder are looked at.
const FILES: usize = 32;
/// So much is read of a file at a time.
const MOST: u64 = 512 << 20;
/// So many bytes before the place where reading goes on tell whether they are still the same.
const BEFORE: usize = 64;
/// A line of more bytes is none of a log.
const LINE: u64 = 1 << 20;

/// A task that runs or ran, as a run tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Begun {
    pub run: String,
    /// Of its action; the build has none.
    pub key: Option<Key>,
    pub log: PathBuf,
}

/// The files of lines that an action writes while it runs: of its outputs, and of what it would go on from.
pub fn files(store: &Store, key: &Key) -> Vec<PathBuf> {
    let mut all = listed(&Store::newest_outputs(&store.attempt(key)));
    let lines = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "jsonl");
    all.extend(listed(&store.state(key)).into_iter().filter(lines));
    all
}

/// The files that lie in a folder, and not elsewhere.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let mut files: Vec<PathBuf> = files.take(FILES).map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// The files that are followed, with all that was read of them.
#[derive(Default)]
pub struct Files(Mutex<HashMap<PathBuf, Kept>>);

/// A file, and its place in the order in which they were asked for.
struct Kept {
    asked: u64,
    followed: Arc<Mutex<Followed>>,
}

impl Files {
    /// The curves of an action so far, with the file that each is of; `events` is where it reports. Of what is written at
    /// several places, the one that reaches furthest counts.
    pub fn curves(&self, store: &Store, key: Option<&Key>, events: Option<&Path>) -> Vec<(PathBuf, Curve)> {
        let mut all: Vec<(PathBuf, Curve)> = Vec::new();
        let files = key.map(|key| files(store, key)).unwrap_or_default();
        // One line of values may be a score, which is no log.
        let files = files.into_iter().map(|path| (path, values as Numbers, 2));
        let events = events.map(|path| (path.to_path_buf(), measured as Numbers, 1));
        for (path, numbers, least) in files.chain(events) {
            for curve in self.of(&path, numbers, least) {
                let same =
                    |(_, own): &&mut (PathBuf, Curve)| own.name == curve.name && own.x_name == curve.x_name;
                match all.iter_mut().find(same) {
                    Some(own) if own.1.x.last() < curve.x.last() => *own = (path.clone(), curve),
                    Some(_) => {}
                    None => all.push((path.clone(), curve)),
                }
            }
        }
        all
    }

    fn of(&self, path: &Path, numbers: Numbers, least: u64) -> Vec<Curve> {
        let followed = {
            let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = files.values().map(|kept| kept.asked).max().unwrap_or_default() + 1;
            if files.len() >= FOLLOWED && !files.contains_key(path) {
                let oldest = files.iter().min_by_key(|(_, kept)| kept.asked).map(|(path, _)| path.clone());
                oldest.map(|oldest| files.remove(&oldest));
            }
            let fresh = || Kept { asked: 0, followed: Arc::new(Mutex::new(Followed::new(numbers))) };
            let kept = files.entry(path.to_path_buf()).or_insert_with(fresh);
            kept.asked = newest;
            Arc::clone(&kept.followed)
        };
        let mut followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
        match followed.read(path) {
            Ok(()) if followed.lines.count() >= least => followed.lines.curves(),
            // It is gone, or just being made.
            _ => Vec::new(),
        }
    }
}

/// A file that grows.
struct Followed {
    numbers: Numbers,
    /// Where the first line begins that was not read whole.
    at: u64,
    /// What stands before it.
    before: Vec<u8>,
    lines: Lines,
}

impl Followed {
    fn new(numbers: Numbers) -> Self {
        Self { numbers, at: 0, before: Vec::new(), lines: Lines::again(numbers) }
    }

    /// Reads on; from the beginning where it is another file by now, or was cut.
    fn read(&mut self, path: &Path) -> io::Result<()> {
        let file = store::contents::open(path)?;
        if !self.goes_on(&file)? {
            *self = Self::new(self.numbers);
        }
        if self.lines.is_other() {
            return Ok(());
        }
        let mut reader = BufReader::new(OnFrom { file: &file, at: self.at }.take(MOST));
        let (mut line, mut cut) = (Vec::new(), false);
        loop {
            line.clear();
            let count = reader.by_ref().take(LINE).read_until(b'\n', &mut line)? as u64;
            let whole = line.ends_with(b"\n");
            // What is longer than any line is skipped, up to the end of it.
            if count == 0 || !whole && count < LINE {
                return Ok(());
            }
            if whole && !cut {
                self.lines.take(&line);
            }
            cut = !whole;
            if cut && self.at == 0 || self.lines.is_other() {
                // It is read no more, unless it is another file one day.
                self.lines.give_up();
                return Ok(());
            }
            self.at += count;
            let kept = line.len().min(BEFORE);
            self.before = line[line.len() - kept..].to_vec();
        }
    }

    /// Whether it is as it was where it was read.
    fn goes_on(&self, file: &File) -> io::Result<bool> {
        let mut before = vec![0; self.before.len()];
        if file.metadata()?.len() < self.at {
            return Ok(false);
        }
        file.read_exact_at(&mut before, self.at - self.before.len() as u64)?;
        Ok(before == self.before)
    }
}

/// A file from a place on.
struct OnFrom<'a> {
    file: &'a File,
    at: u64,
}

impl Read for OnFrom<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn written(path: &Path, text: &str) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn half_a_line_is_none_until_it_is_whole_and_what_was_read_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let files = Files::default();
        let points = || files.of(&path, values, 1).first().map(|curve| (curve.x.clone(), curve.y.clone()));
        assert_eq!(points(), None);
        written(&path, "{\"step\":1,\"loss\":4}\n{\"step\":2,\"loss\":3}");
        assert_eq!(points(), Some((vec![1.0], vec![Some(4.0)])), "a line without its end may be half a line");
        written(&path, "\n{\"step\":3,\"lo");
        assert_eq!(points(), Some((vec![1.0, 2.0], vec![Some(4.0), Some(3.0)])));
        written(&path, "ss\":2}\n");
        assert_eq!(points().unwrap().0, [1.0, 2.0, 3.0]);
        // Cut and written on from there, as by a training that goes on from a checkpoint, to more than there was.
        let text = "{\"step\":1,\"loss\":4}\n{\"step\":2,\"loss\":8}\n{\"step\":3,\"loss\":8}\n{\"step\":4,\"loss\":8}\n";
        std::fs::write(&path, text).unwrap();
        let y = vec![Some(4.0), Some(8.0), Some(8.0), Some(8.0)];
        assert_eq!(points(), Some((vec![1.0, 2.0, 3.0, 4.0], y)));
    }

    #[test]
    fn what_reaches_furthest_counts_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "s").unwrap();
        let key = Key::new(blake3::hash(b"x"));
        let out = Store::next_outputs(&store.attempt(&key));
        let (state, events) = (store.state(&key), folder.path().join("events"));
        std::fs::create_dir_all(&out).unwrap();
        std::fs::create_dir_all(&state).unwrap();
        written(&out.join("log"), "{\"step\":1,\"loss\":4}\n");
        written(&state.join("log.jsonl"), "{\"step\":1,\"loss\":4}\n{\"step\":2,\"loss\":3}\n");
        written(&state.join("other"), "{\"step\":1,\"hidden\":4}\n");
        written(&events, "{\"event\":\"metrics\",\"step\":1,\"values\":{\"loss\":4,\"gain\":7}}\n");
        written(&folder.path().join("far"), "{\"step\":1,\"far\":4}\n");
        std::os::unix::fs::symlink(folder.path().join("far"), out.join("far")).unwrap();
        let curves = Files::default().curves(&store, Some(&key), Some(&events));
        let shown: Vec<_> =
            curves.iter().map(|(path, curve)| (path.clone(), curve.name.as_str(), curve.x.len())).collect();
        assert_eq!(shown, [(state.join("log.jsonl"), "loss", 2), (events, "gain", 1)]);
    }
}

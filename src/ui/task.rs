//! A task that runs: how far it is, and how fast it goes, from what it writes.

use crate::cache::metrics::parse;
use crate::screen::pace::Pace;
use crate::ui::growing::files;
use crate::ui::slug::slug;
use crate::ui::state::Progress;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use store::{Key, Store};

/// No more of a file is read at a time.
const MOST: u64 = 4 << 20;
/// Of events that were written before anybody looked, so much of the end is read.
const TAIL: u64 = 64 << 10;
/// How often the logs of numbers that it writes are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// See the module.
pub struct Task {
    /// The step that it is of.
    pub step: String,
    pub log: PathBuf,
    /// Of its action; the build has none.
    key: Option<Key>,
    /// It waits in the queue of a cluster.
    pub queued: bool,
    /// Bytes of its events that were read.
    at: u64,
    /// Of its log and its events.
    sizes: [u64; 2],
    pub progress: Option<Progress>,
    /// What it computes on, as it says itself.
    pub device: Option<String>,
    pace: Pace,
    /// Its logs of numbers, with their sizes, and when they were looked at.
    numbers: Vec<(PathBuf, u64)>,
    looked: Instant,
    /// It reported numbers of which nobody was told yet.
    measured: bool,
}

impl Task {
    /// One that has just begun.
    pub fn new(step: String, key: Option<Key>, log: PathBuf) -> Self {
        let (pace, numbers, looked) = (Pace::default(), Vec::new(), Instant::now());
        let (at, sizes, progress, device) = (0, [0; 2], None, None);
        let (queued, measured) = (false, false);
        Self { step, log, key, queued, at, sizes, progress, device, pace, numbers, looked, measured }
    }

    /// Whether there may be more of its curves than when this was asked last.
    pub fn grew(&mut self, store: &Store) -> bool {
        if self.looked.elapsed() < LOOK {
            return false;
        }
        self.looked = Instant::now();
        let files = self.key.iter().flat_map(|key| files(store, key));
        let sized = |path: PathBuf| {
            let size = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            (path, size)
        };
        let numbers: Vec<(PathBuf, u64)> = files.map(sized).collect();
        let others = std::mem::replace(&mut self.numbers, numbers) != self.numbers;
        std::mem::take(&mut self.measured) | others
    }

    /// Looks at what it wrote: which of its logs grew, with their sizes.
    pub fn look(&mut self, name: &str, run: &str) -> Vec<(String, u64)> {
        let mut grown = Vec::new();
        let events = self.log.with_extension("events");
        for (place, path) in [&self.log, &events].into_iter().enumerate() {
            let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
            if size != self.sizes[place] {
                self.sizes[place] = size;
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                grown.push((format!("log/{run}/{}", slug(&file)), size));
            }
        }
        // Another attempt begins anew.
        if self.at == 0 || self.sizes[1] < self.at {
            self.at = self.sizes[1].saturating_sub(TAIL);
        }
        let text = if self.sizes[1] > self.at { lines(&events, &mut self.at) } else { String::new() };
        self.measured |= text.contains("\"metrics\"");
        let told = text.lines().rev().find_map(|line| match parse(line.as_bytes()) {
            Ok(stage::Event::Progress { done, total, unit }) => Some((done, total, unit)),
            _ => None,
        });
        let device = text.lines().find_map(|line| match parse(line.as_bytes()) {
            Ok(stage::Event::Facts { mut values }) => values.remove("device"),
            _ => None,
        });
        self.device = device.or(self.device.take());
        if let Some((done, total, unit)) = told {
            // Another thing is counted.
            if self.progress.as_ref().is_some_and(|progress| progress.unit != unit) {
                self.pace.clear();
            }
            self.pace.take(Instant::now(), done);
            let (rate, left) = (self.pace.rate(), self.pace.left(total));
            self.progress = Some(Progress { task: name.into(), done, total, unit, rate, left });
        }
        grown
    }
}

/// The new whole lines of a file.
pub fn lines(path: &Path, at: &mut u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(*at))?;
        file.take(MOST).read_to_end(&mut bytes)
    });
    let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(last) if read.is_ok() => last + 1,
        // A line that long is skipped.
        None if bytes.len() as u64 >= MOST => bytes.len(),
        _ => 0,
    };
    *at += whole as u64;
    String::from_utf8_lossy(&bytes[..whole]).into_owned()
}

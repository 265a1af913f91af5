//! The log: one line of JSON per entry, never ahead of the checkpoint that training goes on from; and TensorBoard's form of it.

use crate::events::{EVENTS, Events};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Means since the line before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Optimiser steps done.
    pub step: usize,
    /// `mse` (of the noise, before any weight), `vb` (variance term, bits per dimension), `prior` (before its weight; 0 without
    /// it), `loss` (what is minimised), and where they are used `weighted` (noise error), `load_balance` and `z`.
    #[serde(flatten)]
    pub means: BTreeMap<String, f64>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Speed.
    pub images_per_second: f64,
}

impl Line {
    /// All numbers with their names.
    fn numbers(&self) -> impl Iterator<Item = (&str, f64)> {
        let speeds = [("learning_rate", self.learning_rate), ("images_per_second", self.images_per_second)];
        self.means.iter().map(|(name, value)| (name.as_str(), *value)).chain(speeds)
    }
}

/// The name of the log while training goes on.
pub const LOG: &str = "log.jsonl";
/// How every line begins.
const BEGIN: &[u8] = b"{\"step\":";

/// Finished outputs whose log a longer training goes on with.
pub struct Earlier {
    /// The log.
    pub log: PathBuf,
    /// The folder of events, if there was one.
    pub events: Option<PathBuf>,
}

/// The file of lines and the file of events, side by side in one folder.
pub struct Log {
    file: File,
    events: Events,
}

impl Log {
    /// Starts an empty log.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(folder: &Path) -> Result<Self> {
        for name in [LOG, EVENTS] {
            let path = folder.join(name);
            File::create(&path).with_context(|| format!("making {}", path.display()))?;
        }
        Ok(Self::resume(folder, None, 0, 1)?.0)
    }

    /// Goes on with the log without what came after `step`: that of `folder`, or of `earlier` where that reaches further. Also
    /// gives, in words, what of it is missing.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn resume(
        folder: &Path,
        earlier: Option<&Earlier>,
        step: usize,
        every: usize,
    ) -> Result<(Self, Option<String>)> {
        let path = folder.join(LOG);
        let context = || format!("going on with {}", path.display());
        let own = lines(&path, step)?;
        let theirs = earlier.map_or(Ok(Vec::new()), |earlier| lines(&earlier.log, step))?;
        let last = |lines: &[Line]| lines.last().map_or(0, |line| line.step);
        let (from, kept) = if last(&theirs) > last(&own) { (earlier, theirs) } else { (None, own) };
        if let Some(earlier) = from {
            let events = earlier.events.iter().map(|events| (events.join(EVENTS), EVENTS));
            for (from, name) in events.chain([(earlier.log.clone(), LOG)]).filter(|(from, _)| from.exists()) {
                std::fs::copy(&from, folder.join(name)).with_context(context)?;
            }
        }
        // What a killed run has left behind these lines is half a line, or of steps that will be done again.
        let text =
            if path.exists() { std::fs::read_to_string(&path).with_context(context)? } else { String::new() };
        let length: usize = text.split_inclusive('\n').take(kept.len()).map(str::len).sum();
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(false).open(&path).with_context(context)?;
        file.set_len(length as u64).with_context(context)?;
        file.seek(SeekFrom::End(0)).with_context(context)?;
        let steps: Vec<usize> = kept.iter().map(|line| line.step).collect();
        let (mut events, there) = Events::resume(&folder.join(EVENTS), &steps)?;
        // Those that it lacks, or never had, are the log's.
        kept[there..].iter().try_for_each(|line| events.write(line.step, line.numbers()))?;
        Ok((Self { file, events }, missing(&kept, step, every)))
    }

    /// Appends a line.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).context("writing the log")?;
        self.events.write(line.step, line.numbers())
    }

    /// Waits until all lines are on the disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().context("writing the log")
    }
}

/// The whole lines of a log up to a step.
fn lines(path: &Path, step: usize) -> Result<Vec<Line>> {
    let text = match std::fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.with_context(|| format!("reading {}", path.display()))?,
    };
    let whole = text.split_inclusive(|byte| *byte == b'\n').take_while(|line| line.ends_with(b"\n"));
    let lines = whole.map_while(|line| serde_json::from_slice::<Line>(line).ok());
    Ok(lines.take_while(|line| line.step <= step).collect())
}

/// Whether a file holds nothing but a log: whole lines, and perhaps the beginning of one.
///
/// # Errors
/// When it cannot be read.
pub fn is_log(path: &Path) -> Result<bool> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let ours = |line: &[u8]| match line.ends_with(b"\n") {
        true => serde_json::from_slice::<Line>(line).is_ok(),
        false => line.starts_with(BEGIN) || BEGIN.starts_with(line),
    };
    Ok(text.split_inclusive(|byte| *byte == b'\n').all(ours))
}

/// Says where a log ends before a step by more than the distance of its lines.
fn missing(lines: &[Line], step: usize, every: usize) -> Option<String> {
    let last = lines.last().map_or(0, |line| line.step);
    let distance = match lines {
        [.., a, b] => b.step.saturating_sub(a.step),
        _ => 0,
    };
    (step - last >= distance.max(every)).then(|| match last {
        0 => format!("the log of the steps up to {step} is not there"),
        last => format!("the log was cut: the lines of the steps after {last}, up to {step}, are missing"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: usize) -> Line {
        let means = BTreeMap::from([("mse".to_string(), 1.0)]);
        Line { step, learning_rate: 1e-4, images_per_second: 9.0, means }
    }

    #[test]
    fn lines_after_the_checkpoint_and_half_lines_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::create(dir.path()).unwrap();
        (1..=4).for_each(|i| log.write(&line(i * 10)).unwrap());
        log.file.write_all(b"{\"step\": 50, \"ms").unwrap();
        let (mut log, fault) = Log::resume(dir.path(), None, 20, 10).unwrap();
        assert_eq!(fault, None);
        log.write(&line(30)).unwrap();
        let text = std::fs::read_to_string(dir.path().join(LOG)).unwrap();
        let steps: Vec<usize> = text.lines().map(|l| serde_json::from_str::<Line>(l).unwrap().step).collect();
        assert_eq!(steps, [10, 20, 30]);
    }

    #[test]
    fn the_log_that_reaches_further_is_taken_and_a_cut_one_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let [state, outputs] = ["state", "outputs"].map(|name| dir.path().join(name));
        std::fs::create_dir(&state).unwrap();
        std::fs::create_dir(&outputs).unwrap();
        let mut log = Log::create(&outputs).unwrap();
        (1..=3).for_each(|i| log.write(&line(i * 10)).unwrap());
        let earlier = Earlier { log: outputs.join(LOG), events: Some(outputs.join(EVENTS)) };
        assert!(is_log(&earlier.log).unwrap());
        Log::create(&state).unwrap().write(&line(10)).unwrap();
        assert_eq!(Log::resume(&state, Some(&earlier), 35, 10).unwrap().1, None);
        assert_eq!(lines(&state.join(LOG), 40).unwrap().len(), 3);

        let text = std::fs::read_to_string(&earlier.log).unwrap();
        std::fs::write(&earlier.log, &text[..text.len() / 2]).unwrap();
        assert!(is_log(&earlier.log).unwrap());
        std::fs::remove_dir_all(&state).unwrap();
        std::fs::create_dir(&state).unwrap();
        let fault = Log::resume(&state, Some(&earlier), 30, 10).unwrap().1.unwrap();
        assert!(fault.contains("after 10, up to 30"), "{fault}");
        std::fs::write(&earlier.log, "my notes\n").unwrap();
        assert!(!is_log(&earlier.log).unwrap());
    }
}

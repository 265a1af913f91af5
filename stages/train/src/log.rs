//! The log: one line of JSON per entry, never ahead of the checkpoint that training goes on from; and TensorBoard's form of it.

use crate::events::{EVENTS, Events};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
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

/// The name of the log while training goes on.
pub const LOG: &str = "log.jsonl";

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
        Self::resume(folder, None, 0)
    }

    /// Goes on with a log, first brought from `earlier` if that is given, without what came after `step`.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn resume(folder: &Path, earlier: Option<&Earlier>, step: usize) -> Result<Self> {
        let path = folder.join(LOG);
        let context = || format!("going on with {}", path.display());
        if let Some(earlier) = earlier {
            let events = earlier.events.iter().map(|events| (events.join(EVENTS), EVENTS));
            for (from, name) in events.chain([(earlier.log.clone(), LOG)]).filter(|(from, _)| from.exists()) {
                std::fs::copy(&from, folder.join(name)).with_context(context)?;
            }
        }
        let text =
            if path.exists() { std::fs::read_to_string(&path).with_context(context)? } else { String::new() };
        // A killed run may have left half a line, or lines of steps that will be done again.
        let kept = text.split_inclusive('\n').take_while(|text| {
            let line = serde_json::from_str::<Line>(text);
            text.ends_with('\n') && line.is_ok_and(|line| line.step <= step)
        });
        let length: usize = kept.map(str::len).sum();
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(false).open(&path).with_context(context)?;
        file.set_len(length as u64).with_context(context)?;
        file.seek(SeekFrom::End(0)).with_context(context)?;
        Ok(Self { file, events: Events::resume(&folder.join(EVENTS), step)? })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).context("writing the log")?;
        let speeds = [("learning_rate", line.learning_rate), ("images_per_second", line.images_per_second)];
        let means = line.means.iter().map(|(name, value)| (name.as_str(), *value));
        self.events.write(line.step, means.chain(speeds))
    }

    /// Waits until all lines are on the disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().context("writing the log")
    }
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
        let mut log = Log::resume(dir.path(), None, 20).unwrap();
        log.write(&line(30)).unwrap();
        let text = std::fs::read_to_string(dir.path().join(LOG)).unwrap();
        let steps: Vec<usize> = text.lines().map(|l| serde_json::from_str::<Line>(l).unwrap().step).collect();
        assert_eq!(steps, [10, 20, 30]);
    }
}

//! The log: one line of JSON per entry, never ahead of the checkpoint that training goes on from.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

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

/// The file.
pub struct Log {
    file: File,
}

impl Log {
    /// Starts an empty log.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { file })
    }

    /// Goes on with a log, first brought from `earlier` if that is given, without its lines after `step`.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn resume(path: &Path, earlier: Option<&Path>, step: usize) -> Result<Self> {
        let context = || format!("going on with {}", path.display());
        if let Some(earlier) = earlier.filter(|p| p.exists()) {
            std::fs::copy(earlier, path).with_context(context)?;
        }
        let text =
            if path.exists() { std::fs::read_to_string(path).with_context(context)? } else { String::new() };
        // A killed run may have left half a line, or lines of steps that will be done again.
        let kept = text.split_inclusive('\n').take_while(|text| {
            let line = serde_json::from_str::<Line>(text);
            text.ends_with('\n') && line.is_ok_and(|line| line.step <= step)
        });
        let length: usize = kept.map(str::len).sum();
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(false).open(path).with_context(context)?;
        file.set_len(length as u64).with_context(context)?;
        file.seek(SeekFrom::End(0)).with_context(context)?;
        Ok(Self { file })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).context("writing the log")
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
        let path = dir.path().join("log");
        let mut log = Log::create(&path).unwrap();
        (1..=4).for_each(|i| log.write(&line(i * 10)).unwrap());
        log.file.write_all(b"{\"step\": 50, \"ms").unwrap();
        let mut log = Log::resume(&path, None, 20).unwrap();
        log.write(&line(30)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let steps: Vec<usize> = text.lines().map(|l| serde_json::from_str::<Line>(l).unwrap().step).collect();
        assert_eq!(steps, [10, 20, 30]);
    }
}

//! Reads, decodes and crops pictures ahead of the network.

use anyhow::{Context, Result};
use pictures::{Picture, Pictures, center_crop, decode};
use rayon::prelude::*;
use stage::BadInputExt;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// Batches kept ready.
const AHEAD: usize = 3;

/// One shard to make.
#[derive(Clone, Debug)]
pub struct ShardWork {
    /// Its number.
    pub shard: usize,
    /// Its rows among all pictures.
    pub rows: Range<usize>,
}

/// Pictures ready for the network; never of two shards.
pub struct Batch {
    /// `[B, S, S, 3]`.
    pub pixels: Vec<u8>,
    /// Classes, 0 where there are none. `[B]`.
    pub labels: Vec<i64>,
    /// Where each came from. `[B]`.
    pub sources: Vec<String>,
}

/// The stream of batches.
pub struct Prefetcher {
    batches: Receiver<Result<Batch>>,
}

impl Prefetcher {
    /// Starts the threads that read the pictures of `todo`, which is in order.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        pictures: &'scope Pictures,
        todo: Vec<ShardWork>,
        size: usize,
        batch_size: usize,
    ) -> Self {
        let (sender, batches) = sync_channel(AHEAD);
        scope.spawn(move || {
            let mut run = Run { pictures, todo: todo.into(), size, batch_size, sender: &sender };
            if let Err(e) = run.all() {
                // Nobody listens when the work has stopped for another reason.
                let _ = sender.send(Err(e));
            }
        });
        Self { batches }
    }

    /// The next batch.
    ///
    /// # Errors
    /// Bad input that names the first picture that cannot be decoded.
    pub fn next(&mut self) -> Result<Batch> {
        self.batches.recv().context("the pictures ended early")?
    }
}

struct Run<'a> {
    pictures: &'a Pictures,
    todo: std::collections::VecDeque<ShardWork>,
    size: usize,
    batch_size: usize,
    sender: &'a SyncSender<Result<Batch>>,
}

impl Run<'_> {
    fn all(&mut self) -> Result<()> {
        let mut first = 0;
        for (index, file) in self.pictures.manifest().files.iter().enumerate() {
            let rows = first..first + file.rows;
            first = rows.end;
            if self.todo.iter().any(|work| work.rows.start < rows.end && work.rows.end > rows.start)
                && !self.file(index, rows.start)?
            {
                break;
            }
        }
        Ok(())
    }

    /// Sends the wanted pictures of a file. False when nobody wants more.
    fn file(&mut self, index: usize, first: usize) -> Result<bool> {
        let name = &self.pictures.manifest().files[index].path;
        let mut waiting: Vec<Picture> = Vec::new();
        for picture in self.pictures.read(index)? {
            let picture = picture?;
            let row = first + picture.row;
            let Some(work) = self.todo.front() else { break };
            if row < work.rows.start {
                continue;
            }
            let last = row + 1 == work.rows.end;
            waiting.push(picture);
            if last {
                self.todo.pop_front();
            }
            if (last || waiting.len() == self.batch_size) && !self.send(name, std::mem::take(&mut waiting))? {
                return Ok(false);
            }
        }
        if waiting.is_empty() { Ok(true) } else { self.send(name, waiting) }
    }

    fn send(&self, file: &str, pictures: Vec<Picture>) -> Result<bool> {
        let crops: Vec<Vec<u8>> = pictures
            .par_iter()
            .map(|picture| {
                let rgb = decode(&picture.bytes).bad_input(|| format!("{file} {}", picture.place()))?;
                Ok(center_crop(&rgb, self.size).pixels)
            })
            .collect::<Result<_>>()?;
        let batch = Batch {
            pixels: crops.concat(),
            labels: pictures.iter().map(|p| p.label.unwrap_or(0)).collect(),
            sources: pictures.into_iter().map(|p| format!("{file}:{}:{}", p.row, p.name)).collect(),
        };
        Ok(self.sender.send(Ok(batch)).is_ok())
    }
}

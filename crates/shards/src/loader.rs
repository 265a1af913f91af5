//! Batches of latents for training, determined by (seed, step, rank) alone.
//!
//! All visits form one sequence: epoch after epoch, each a permutation of all rows. Batch `step` of rank `r` of `R` is the
//! stretch of `B` visits that begins at visit `(step * R + r) * B`; so ranks see disjoint rows, a batch may begin in one
//! epoch and end in the next, and a resumed run finds its place by arithmetic.

use crate::Latents;
use anyhow::{Context, Result, ensure};
use half::f16;
use rayon::prelude::*;
use rng::Stream;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Batches made ahead of the one that is asked for.
const AHEAD: usize = 2;
/// Batches whose rows the disk is asked for, ahead of the one that is being made.
const READ_AHEAD: usize = 8;

/// Permutations kept: the one that batches are made of, and the one that the disk is asked for.
const ORDERS: usize = 3;

/// One batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Fresh samples of the posterior, scaled as the diffusion model wants them. `[B, C, H, W]`.
    pub latents: Vec<f32>,
    /// Classes. `[B]`.
    pub labels: Vec<i64>,
}

/// Makes the batches, a few ahead of the training in a thread of its own.
pub struct Loader {
    source: BatchReader,
    ahead: Mutex<Option<Ahead>>,
}

/// A permutation of all rows.
type Order = Arc<Vec<u32>>;

#[derive(Clone)]
struct BatchReader {
    latents: Latents,
    batch: usize,
    seed: u64,
    rank: usize,
    ranks: usize,
    /// The permutations in use: more than one where batches in the making span epochs.
    orders: Arc<Mutex<Vec<(u64, Order)>>>,
}

struct Ahead {
    next: usize,
    batches: Receiver<Result<Batch>>,
}

impl Loader {
    /// Batches of `batch` rows. The mirrored copy, where there is one, is taken at every other visit on average.
    ///
    /// # Errors
    /// When `batch` is 0 or there are more rows than 32 bits count.
    pub fn new(latents: &Latents, batch: usize, seed: u64) -> Result<Self> {
        Self::for_rank(latents, batch, seed, 0, 1)
    }

    /// Batches of one of several processes that train together; `batch` is what this one sees.
    ///
    /// # Errors
    /// As [`Loader::new`], and when `rank` is none of `ranks`.
    pub fn for_rank(latents: &Latents, batch: usize, seed: u64, rank: usize, ranks: usize) -> Result<Self> {
        ensure!(batch > 0, "a batch of no rows");
        ensure!(rank < ranks, "rank {rank} of {ranks}");
        ensure!(u32::try_from(latents.len()).is_ok(), "{} rows are too many", latents.len());
        let source =
            BatchReader { latents: latents.clone(), batch, seed, rank, ranks, orders: Arc::default() };
        Ok(Self { source, ahead: Mutex::new(None) })
    }

    /// The batch of a step; cheapest when steps are asked for in order.
    ///
    /// # Errors
    /// Bad input that names the row group whose bytes are not those that were written.
    pub fn batch(&self, step: usize) -> Result<Batch> {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let current = match ahead.take() {
            Some(current) if current.next == step => current,
            // Another step: the old thread ends when it finds nobody listening.
            _ => self.start(step)?,
        };
        let batch = current.batches.recv().context("the thread that makes batches has died")?;
        if batch.is_ok() {
            *ahead = Some(Ahead { next: step + 1, ..current });
        }
        batch
    }

    fn start(&self, first: usize) -> Result<Ahead> {
        let (sender, batches) = sync_channel(AHEAD);
        let source = self.source.clone();
        let asked = if source.latents.in_memory() { None } else { Some(self.read_ahead(first)?) };
        std::thread::Builder::new()
            .name("loader".into())
            .spawn(move || {
                for step in first.. {
                    if let Some(asked) = &asked {
                        // It ends only with this thread.
                        let _ = asked.recv();
                    }
                    let batch = source.batch(step);
                    let failed = batch.is_err();
                    if sender.send(batch).is_err() || failed {
                        return;
                    }
                }
            })
            .context("starting the thread that makes batches")?;
        Ok(Ahead { next: first, batches })
    }

    /// Asks the disk for the rows of one batch after the other, and says so after each.
    fn read_ahead(&self, first: usize) -> Result<Receiver<()>> {
        let (sender, asked) = sync_channel(READ_AHEAD);
        let source = self.source.clone();
        std::thread::Builder::new()
            .name("read-ahead".into())
            .spawn(move || {
                for step in first.. {
                    for (visit, row) in source.visits(step) {
                        source.latents.fetch(row, source.flipped(visit));
                    }
                    if sender.send(()).is_err() {
                        return;
                    }
                }
            })
            .context("starting the thread that reads ahead")?;
        Ok(asked)
    }
}

impl BatchReader {
    fn batch(&self, step: usize) -> Result<Batch> {
        let numel = self.latents.about().numel();
        let visits = self.visits(step);
        let mut latents = vec![0f32; self.batch * numel];
        latents.par_chunks_mut(numel).zip(&visits).try_for_each_init(
            || (vec![f16::ZERO; numel], vec![0f32; numel]),
            |(scratch, std), (sample, &(visit, row))| self.sample(visit, row, scratch, std, sample),
        )?;
        let labels = visits.iter().map(|&(_, row)| self.latents.labels()[row]).collect();
        Ok(Batch { latents, labels })
    }

    /// The visits of a batch, each with its row.
    fn visits(&self, step: usize) -> Vec<(u64, usize)> {
        let rows = self.latents.len() as u64;
        let first = (step as u64 * self.ranks as u64 + self.rank as u64) * self.batch as u64;
        (first..first + self.batch as u64)
            .map(|visit| (visit, self.order(visit / rows)[(visit % rows) as usize] as usize))
            .collect()
    }

    fn flipped(&self, visit: u64) -> bool {
        self.latents.about().flipped && Stream::by_bytes(self.seed, "flip", visit).bits() >> 63 == 1
    }

    /// `scale * (mean + std * noise)` into `sample`.
    fn sample(
        &self,
        visit: u64,
        row: usize,
        scratch: &mut [f16],
        std: &mut [f32],
        sample: &mut [f32],
    ) -> Result<()> {
        self.latents.read(row, self.flipped(visit), scratch, sample, std)?;
        let scale = self.latents.about().scale as f32;
        let mut noise = Stream::by_bytes(self.seed, "posterior", visit);
        for (value, std) in sample.iter_mut().zip(std) {
            *value = scale * (*value + *std * noise.normal() as f32);
        }
        Ok(())
    }

    fn order(&self, epoch: u64) -> Arc<Vec<u32>> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = orders.iter().find(|(e, _)| *e == epoch) {
            return Arc::clone(order);
        }
        let order =
            Arc::new(Stream::by_bytes(self.seed, "order", epoch).permutation(self.latents.len() as u32));
        if orders.len() >= ORDERS {
            orders.remove(0);
        }
        orders.push((epoch, Arc::clone(&order)));
        order
    }
}

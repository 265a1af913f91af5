//! One shard, or a piece of one: batches through the network into row groups.

use crate::journal::Journal;
use crate::prefetcher::Prefetcher;
use anyhow::{Result, bail};
use half::f16;
use shards::{LatentsMetadata, Rows, Shard, ShardWriter};
use std::path::Path;
use std::time::{Duration, Instant};
use tch::{Kind, Tensor};
use vae::{Posterior, Vae, from_bytes};

/// Rows of a row group, the least a reader verifies: 2 MiB of latents of 32×32 with their mirrored copies at 64 rows.
const GROUP: usize = 64;

/// The file name of a shard.
pub fn name(shard: usize) -> String {
    format!("{shard:05}.parquet")
}

/// Where the time went.
#[derive(Debug, Default)]
pub struct Timing {
    network: Duration,
    waiting: Duration,
    writing: Duration,
}

impl Timing {
    /// One line for people.
    pub fn line(&self, pictures: usize, total: Duration) -> String {
        let seconds = total.as_secs_f64().max(1e-9);
        let share = |part: Duration| format!("{:.1} %", 100.0 * part.as_secs_f64() / seconds);
        format!(
            "encoded {pictures} pictures in {seconds:.1} s ({:.1} a second): {} in the autoencoder, {} waiting for pictures, \
             {} writing",
            pictures as f64 / seconds,
            share(self.network),
            share(self.waiting),
            share(self.writing)
        )
    }
}

/// The file of a shard, filled batch by batch.
pub struct ShardFile<'a> {
    about: &'a LatentsMetadata,
    writer: ShardWriter,
    /// What is no whole row group yet.
    waiting: Rows,
}

impl<'a> ShardFile<'a> {
    /// Starts the file `path`, perhaps with sums over the channels; what a killed run left there goes first, as it may be linked
    /// elsewhere.
    pub fn create(path: &Path, about: &'a LatentsMetadata, sums: bool) -> Result<Self> {
        if path.exists() {
            std::fs::remove_file(path)?;
        }
        let writer = ShardWriter::create(path, about)?;
        let writer = if sums { writer.with_sums() } else { writer };
        Ok(Self { about, writer, waiting: Rows::default() })
    }

    /// Adds the next rows.
    pub fn add(&mut self, rows: Rows) -> Result<()> {
        append(rows, &mut self.waiting);
        while self.waiting.label.len() >= GROUP {
            self.writer.write(first(&mut self.waiting, self.about, GROUP))?;
        }
        Ok(())
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<Shard> {
        let rest = self.waiting.label.len();
        if rest > 0 {
            self.writer.write(first(&mut self.waiting, self.about, rest))?;
        }
        self.writer.finish()
    }
}

/// A shard being encoded, or a piece of one.
pub struct Encoder<'a> {
    vae: &'a Vae,
    about: &'a LatentsMetadata,
    /// None for a piece, whose journal is what is wanted.
    file: Option<ShardFile<'a>>,
    journal: Journal,
    rows: usize,
}

impl<'a> Encoder<'a> {
    /// Goes on with the batches of a journal, into `file` where it is all of a shard.
    pub fn new(
        vae: &'a Vae,
        about: &'a LatentsMetadata,
        mut file: Option<ShardFile<'a>>,
        journal: &Path,
    ) -> Result<Self> {
        let mut rows = 0;
        let journal = Journal::open(journal, about, &mut |batch| {
            rows += batch.label.len();
            file.as_mut().map_or(Ok(()), |file| file.add(batch))
        })?;
        Ok(Self { vae, about, file, journal, rows })
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Encodes the next batch and says how many pictures it had.
    pub fn add(&mut self, prefetcher: &mut Prefetcher, timing: &mut Timing) -> Result<usize> {
        let batch = clock(&mut timing.waiting, || prefetcher.next())?;
        let count = batch.labels.len();
        let size = self.about.image_size as i64;
        let mut rows = Rows { label: batch.labels, source: batch.sources, ..Rows::default() };
        clock(&mut timing.network, || -> Result<()> {
            let bytes = Tensor::f_from_slice(&batch.pixels)?.f_view([count as i64, size, size, 3])?;
            let bytes = bytes.f_to_device(self.vae.device())?.f_permute([0, 3, 1, 2])?;
            let pictures = from_bytes(&bytes)?; // [B, 3, S, S]
            (rows.mean, rows.std) = halves(&self.moments(&pictures)?, &rows.source)?;
            if self.about.flipped {
                let mirrored = self.moments(&pictures.f_flip([3])?)?;
                (rows.mean_flipped, rows.std_flipped) = halves(&mirrored, &rows.source)?;
            }
            Ok(())
        })?;
        self.rows += count;
        clock(&mut timing.writing, || {
            self.journal.add(&rows)?;
            self.file.as_mut().map_or(Ok(()), |file| file.add(rows))?;
            Ok(count)
        })
    }

    /// Ends the file, if there is one.
    pub fn finish(self, timing: &mut Timing) -> Result<Option<Shard>> {
        clock(&mut timing.writing, || self.file.map(ShardFile::finish).transpose())
    }

    fn moments(&self, pictures: &Tensor) -> Result<Posterior> {
        tch::no_grad(|| self.vae.encode_moments(pictures))
    }
}

/// Takes the first so many rows.
fn first(waiting: &mut Rows, about: &LatentsMetadata, rows: usize) -> Rows {
    let numbers = rows * about.numel();
    let flipped = if about.flipped { numbers } else { 0 };
    Rows {
        mean: waiting.mean.drain(..numbers).collect(),
        std: waiting.std.drain(..numbers).collect(),
        mean_flipped: waiting.mean_flipped.drain(..flipped).collect(),
        std_flipped: waiting.std_flipped.drain(..flipped).collect(),
        label: waiting.label.drain(..rows).collect(),
        source: waiting.source.drain(..rows).collect(),
    }
}

fn append(batch: Rows, waiting: &mut Rows) {
    waiting.mean.extend(batch.mean);
    waiting.std.extend(batch.std);
    waiting.mean_flipped.extend(batch.mean_flipped);
    waiting.std_flipped.extend(batch.std_flipped);
    waiting.label.extend(batch.label);
    waiting.source.extend(batch.source);
}

/// Mean and standard deviation as they are stored; `sources` are the pictures they are of.
fn halves(moments: &Posterior, sources: &[String]) -> Result<(Vec<f16>, Vec<f16>)> {
    let half = |what: &str, tensor: &Tensor| -> Result<Vec<f16>> {
        let half = tensor.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Half)?.f_contiguous()?;
        let mut numbers = vec![f16::ZERO; half.numel()];
        half.f_copy_data(&mut numbers, half.numel())?;
        let one = (half.numel() / sources.len().max(1)).max(1);
        if let Some(at) = numbers.iter().position(|number| !number.is_finite()) {
            bail!(
                "{}: the {what} of its latent holds {}, which is no number of float16; the autoencoder does not fit these \
                 pictures, or computes in too few bits",
                sources[at / one],
                numbers[at]
            )
        }
        Ok(numbers)
    };
    Ok((half("mean", &moments.mean)?, half("deviation", &moments.std)?))
}

fn clock<T>(total: &mut Duration, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = work();
    *total += start.elapsed();
    result
}

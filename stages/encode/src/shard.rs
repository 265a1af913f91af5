//! One shard: batches through the network into row groups.

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

/// A shard being encoded.
pub struct Encoder<'a> {
    vae: &'a Vae,
    about: &'a LatentsMetadata,
    writer: ShardWriter,
    waiting: Rows,
    rows: usize,
}

impl<'a> Encoder<'a> {
    /// Starts the file `path`, perhaps with sums over the channels; what a killed run left there goes first, as it may be linked elsewhere.
    pub fn new(vae: &'a Vae, about: &'a LatentsMetadata, sums: bool, path: &Path) -> Result<Self> {
        if path.exists() {
            std::fs::remove_file(path)?;
        }
        let writer = ShardWriter::create(path, about)?;
        let writer = if sums { writer.with_sums() } else { writer };
        Ok(Self { vae, about, writer, waiting: Rows::default(), rows: 0 })
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
        clock(&mut timing.network, || -> Result<()> {
            let bytes = Tensor::f_from_slice(&batch.pixels)?.f_view([count as i64, size, size, 3])?;
            let bytes = bytes.f_to_device(self.vae.device())?.f_permute([0, 3, 1, 2])?;
            let pictures = from_bytes(&bytes)?; // [B, 3, S, S]
            let waiting = &mut self.waiting;
            append(&moments(self.vae, &pictures)?, &mut waiting.mean, &mut waiting.std, &batch.sources)?;
            if self.about.flipped {
                let mirrored = moments(self.vae, &pictures.f_flip([3])?)?;
                append(&mirrored, &mut waiting.mean_flipped, &mut waiting.std_flipped, &batch.sources)?;
            }
            Ok(())
        })?;
        self.waiting.label.extend(batch.labels);
        self.waiting.source.extend(batch.sources);
        self.rows += count;
        clock(&mut timing.writing, || {
            while self.waiting.label.len() >= GROUP {
                self.write(GROUP)?;
            }
            Ok(count)
        })
    }

    /// Ends the file.
    pub fn finish(mut self, timing: &mut Timing) -> Result<Shard> {
        clock(&mut timing.writing, || {
            let rest = self.waiting.label.len();
            if rest > 0 {
                self.write(rest)?;
            }
            self.writer.finish()
        })
    }

    fn write(&mut self, rows: usize) -> Result<()> {
        let numbers = rows * self.about.numel();
        let flipped = if self.about.flipped { numbers } else { 0 };
        let waiting = &mut self.waiting;
        self.writer.write(Rows {
            mean: waiting.mean.drain(..numbers).collect(),
            std: waiting.std.drain(..numbers).collect(),
            mean_flipped: waiting.mean_flipped.drain(..flipped).collect(),
            std_flipped: waiting.std_flipped.drain(..flipped).collect(),
            label: waiting.label.drain(..rows).collect(),
            source: waiting.source.drain(..rows).collect(),
        })
    }
}

fn moments(vae: &Vae, pictures: &Tensor) -> Result<Posterior> {
    tch::no_grad(|| vae.encode_moments(pictures))
}

/// Appends moments as they are stored; `sources` are the pictures they are of.
fn append(moments: &Posterior, mean: &mut Vec<f16>, std: &mut Vec<f16>, sources: &[String]) -> Result<()> {
    for (what, tensor, numbers) in [("mean", &moments.mean, mean), ("deviation", &moments.std, std)] {
        let half = tensor.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Half)?.f_contiguous()?;
        let start = numbers.len();
        numbers.resize(start + half.numel(), f16::ZERO);
        half.f_copy_data(&mut numbers[start..], half.numel())?;
        let one = half.numel() / sources.len().max(1);
        if let Some(at) = numbers[start..].iter().position(|number| !number.is_finite()) {
            bail!(
                "{}: the {what} of its latent holds {}, which is no number of float16; the autoencoder does not fit these \
                 pictures, or computes in too few bits",
                sources[at / one.max(1)],
                numbers[start + at]
            )
        }
    }
    Ok(())
}

fn clock<T>(total: &mut Duration, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = work();
    *total += start.elapsed();
    result
}

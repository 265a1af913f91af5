//! What is encoded of a shard that is not finished yet, batch by batch: a run that is stopped or killed goes on behind it.
//!
//! A record is a length, the batch and its BLAKE3; what follows the last whole record is thrown away.

use anyhow::{Context, Result};
use half::f16;
use shards::{LatentsMetadata, Rows};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The file name of a shard's journal.
pub fn journal_name(shard: usize) -> String {
    format!("{shard:05}.batches")
}

/// A file of batches.
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the journal of a shard, which need not be there, and hands its batches to `give` in their order.
    ///
    /// # Errors
    /// When it cannot be read or written; what `give` returns.
    pub fn open(
        path: &Path,
        about: &LatentsMetadata,
        give: &mut dyn FnMut(Rows) -> Result<()>,
    ) -> Result<Self> {
        let context = || format!("going on with {}", path.display());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.with_context(context)?;
        let whole = each(&file, about, give)?;
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::End(0))).with_context(context)?;
        Ok(Self { path: path.into(), file })
    }

    /// Appends a batch.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn add(&mut self, batch: &Rows) -> Result<()> {
        let bytes = pack(batch);
        let record =
            [&(bytes.len() as u64).to_le_bytes()[..], &bytes, blake3::hash(&bytes).as_bytes()].concat();
        self.file.write_all(&record).with_context(|| format!("writing {}", self.path.display()))
    }
}

/// Hands the batches of a journal that is finished to `give` in their order.
///
/// # Errors
/// When it cannot be read; what `give` returns.
pub fn read(path: &Path, about: &LatentsMetadata, give: &mut dyn FnMut(Rows) -> Result<()>) -> Result<()> {
    let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    each(&file, about, give).map(drop)
}

/// Hands whole batches to `give`; gives where the last one ends.
fn each(file: &File, about: &LatentsMetadata, give: &mut dyn FnMut(Rows) -> Result<()>) -> Result<u64> {
    let (mut whole, mut reader) = (0, BufReader::new(file));
    while let Some((batch, length)) = next(&mut reader, about) {
        give(batch)?;
        whole += length;
    }
    Ok(whole)
}

/// Rows in the journal of a shard.
///
/// # Errors
/// When it cannot be read.
pub fn rows(path: &Path, about: &LatentsMetadata) -> Result<usize> {
    if !path.exists() {
        return Ok(0);
    }
    let mut rows = 0;
    Journal::open(path, about, &mut |batch| {
        rows += batch.label.len();
        Ok(())
    })?;
    Ok(rows)
}

/// The next whole batch and the length of its record.
fn next(reader: &mut impl Read, about: &LatentsMetadata) -> Option<(Rows, u64)> {
    let mut length = [0; 8];
    reader.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes).ok()?;
    let mut digest = [0; 32];
    reader.read_exact(&mut digest).ok()?;
    let whole = bytes.len() as u64 == length && *blake3::hash(&bytes).as_bytes() == digest;
    whole.then(|| Some((unpack(&bytes, about)?, 8 + length + 32)))?
}

fn pack(batch: &Rows) -> Vec<u8> {
    let mut bytes = (batch.label.len() as u32).to_le_bytes().to_vec();
    bytes.extend(batch.label.iter().flat_map(|label| label.to_le_bytes()));
    for source in &batch.source {
        bytes.extend((source.len() as u32).to_le_bytes());
        bytes.extend(source.as_bytes());
    }
    for column in [&batch.mean, &batch.std, &batch.mean_flipped, &batch.std_flipped] {
        bytes.extend(column.iter().flat_map(|value| value.to_le_bytes()));
    }
    bytes
}

fn unpack(mut bytes: &[u8], about: &LatentsMetadata) -> Option<Rows> {
    fn some<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
        let (first, rest) = bytes.split_at_checked(count)?;
        *bytes = rest;
        Some(first)
    }
    fn number(bytes: &mut &[u8]) -> Option<usize> {
        Some(u32::from_le_bytes(some(bytes, 4)?.try_into().ok()?) as usize)
    }
    let count = number(&mut bytes)?;
    let mut batch = Rows::default();
    for _ in 0..count {
        batch.label.push(i64::from_le_bytes(some(&mut bytes, 8)?.try_into().ok()?));
    }
    for _ in 0..count {
        let length = number(&mut bytes)?;
        batch.source.push(String::from_utf8(some(&mut bytes, length)?.to_vec()).ok()?);
    }
    let mut column = |wanted: bool| -> Option<Vec<f16>> {
        let values = if wanted { count * about.numel() } else { 0 };
        let values = some(&mut bytes, 2 * values)?.chunks_exact(2);
        Some(values.map(|pair| f16::from_le_bytes([pair[0], pair[1]])).collect())
    };
    (batch.mean, batch.std) = (column(true)?, column(true)?);
    (batch.mean_flipped, batch.std_flipped) = (column(about.flipped)?, column(about.flipped)?);
    bytes.is_empty().then_some(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(flipped: bool) -> LatentsMetadata {
        LatentsMetadata {
            shape: [1, 2, 1],
            dtype: "float16".into(),
            scale: 1.0,
            shift: 0.0,
            channels: None,
            vae: String::new(),
            classes: 3,
            class_names: Vec::new(),
            image_size: 16,
            flipped,
        }
    }

    fn batch(count: usize, flipped: bool) -> Rows {
        let column =
            |wanted: bool| (0..if wanted { 2 * count } else { 0 }).map(|i| f16::from_f32(i as f32)).collect();
        Rows {
            mean: column(true),
            std: column(true),
            mean_flipped: column(flipped),
            std_flipped: column(flipped),
            label: (0..count as i64).collect(),
            source: (0..count).map(|i| format!("data/0.parquet:{i}:ö.png")).collect(),
        }
    }

    #[test]
    fn whole_batches_come_back_and_the_rest_goes() {
        let dir = tempfile::tempdir().unwrap();
        for flipped in [false, true] {
            let (path, about) = (dir.path().join(flipped.to_string()), about(flipped));
            let read = || {
                let mut found = Vec::new();
                let journal = Journal::open(&path, &about, &mut |batch| {
                    found.push(batch);
                    Ok(())
                });
                (journal.unwrap(), found)
            };
            let (mut journal, found) = read();
            assert!(found.is_empty());
            for count in [3, 1, 2] {
                journal.add(&batch(count, flipped)).unwrap();
            }
            let all = std::fs::read(&path).unwrap();
            assert_eq!(rows(&path, &about).unwrap(), 6);
            let ends: Vec<usize> = [3, 1, 2]
                .iter()
                .scan(0, |end, count| {
                    *end += 40 + pack(&batch(*count, flipped)).len();
                    Some(*end)
                })
                .collect();
            for length in 0..=all.len() {
                std::fs::write(&path, &all[..length]).unwrap();
                let (mut journal, found) = read();
                assert_eq!(found.len(), ends.iter().filter(|end| **end <= length).count(), "cut to {length}");
                assert_eq!(found, [3, 1, 2].map(|count| batch(count, flipped))[..found.len()]);
                journal.add(&batch(5, flipped)).unwrap();
                assert_eq!(read().1.last(), Some(&batch(5, flipped)));
            }
            for at in 0..all.len() {
                let mut other = all.clone();
                other[at] ^= 1;
                std::fs::write(&path, &other).unwrap();
                assert_eq!(read().1.len(), ends.iter().filter(|end| **end <= at).count(), "byte {at}");
            }
        }
    }
}

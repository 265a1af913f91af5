//! Writes latents: one Parquet file at a time, digests as it goes.

use crate::layout::{self, schema};
use crate::manifest::{self, LatentsMetadata, Manifest, RowGroup, Section, Shard};
use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::buffer::Buffer;
use half::f16;
use parquet::arrow::ArrowWriter;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows that become one row group. The moments lie one latent after the other, `[N, C, H, W]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Posterior means, not scaled.
    pub mean: Vec<f16>,
    /// Posterior standard deviations, not scaled.
    pub std: Vec<f16>,
    /// The same of the mirrored pictures; empty unless [`LatentsMetadata::flipped`].
    pub mean_flipped: Vec<f16>,
    /// The same of the mirrored pictures; empty unless [`LatentsMetadata::flipped`].
    pub std_flipped: Vec<f16>,
    /// Classes; 0 without labels.
    pub label: Vec<i64>,
    /// Where each picture came from.
    pub source: Vec<String>,
}

/// A shard being written. The same rows give the same bytes.
pub struct ShardWriter {
    path: PathBuf,
    about: LatentsMetadata,
    writer: ArrowWriter<File>,
    labels: Vec<i64>,
}

impl ShardWriter {
    /// Starts the file `path`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path, about: &LatentsMetadata) -> Result<Self> {
        let context = || format!("writing {}", path.display());
        let file = File::create(path).with_context(context)?;
        let writer = ArrowWriter::try_new(file, Arc::new(schema(about)), Some(layout::properties(about)?))
            .with_context(context)?;
        Ok(Self { path: path.into(), about: about.clone(), writer, labels: Vec::new() })
    }

    /// Appends one row group.
    ///
    /// # Errors
    /// When the columns do not fit each other, or the file cannot be written.
    pub fn write(&mut self, rows: Rows) -> Result<()> {
        let count = rows.label.len();
        let moments = [rows.mean, rows.std, rows.mean_flipped, rows.std_flipped];
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (name, values) in self.about.columns().iter().zip(moments) {
            ensure!(
                values.len() == count * self.about.numel(),
                "column {name} does not hold {count} latents"
            );
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let width = i32::try_from(self.about.width())?;
            columns.push(Arc::new(FixedSizeBinaryArray::try_new(width, Buffer::from_vec(bytes), None)?));
        }
        self.labels.extend_from_slice(&rows.label);
        columns.push(Arc::new(Int64Array::from(rows.label)));
        columns.push(Arc::new(StringArray::from(rows.source)));
        let batch = RecordBatch::try_new(Arc::new(schema(&self.about)), columns)?;
        self.writer
            .write(&batch)
            .and_then(|()| self.writer.flush())
            .with_context(|| format!("writing {}", self.path.display()))
    }

    /// Ends the file and says what is in it.
    ///
    /// # Errors
    /// When it cannot be written or read back.
    pub fn finish(self) -> Result<Shard> {
        let context = || format!("writing {}", self.path.display());
        let metadata = self.writer.close().with_context(context)?;
        let data = layout::Map::new(&self.path)?.bytes();
        let digest = |range: std::ops::Range<u64>| -> String {
            blake3::hash(&data[range.start as usize..range.end as usize]).to_hex().to_string()
        };
        let mut row_groups = Vec::new();
        let mut end = 4;
        for group in metadata.row_groups() {
            let bytes: u64 = group.columns().iter().map(|c| c.byte_range().1).sum();
            let rows = group.num_rows() as usize;
            row_groups.push(RowGroup { rows, offset: end, bytes, blake3: digest(end..end + bytes) });
            end += bytes;
        }
        let all = data.len() as u64;
        let name = self.path.file_name().with_context(context)?;
        Ok(Shard {
            path: name.to_string_lossy().into_owned(),
            rows: self.labels.len(),
            labels: layout::digest_labels(&self.labels),
            bytes: all,
            blake3: digest(0..all),
            footer: Section { offset: end, bytes: all - end, blake3: digest(end..all) },
            row_groups,
        })
    }
}

/// Writes the manifest of a folder, which makes it whole.
///
/// # Errors
/// When it cannot be written.
pub fn write_manifest(folder: &Path, about: &LatentsMetadata, shards: Vec<Shard>) -> Result<Manifest> {
    let rows = shards.iter().map(|s| s.rows).sum();
    let manifest = Manifest { version: manifest::VERSION, rows, latents: about.clone(), shards };
    stage::write_json(&folder.join(manifest::FILE), &manifest)?;
    Ok(manifest)
}

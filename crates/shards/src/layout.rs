//! How a shard lies in its file. One uncompressed, plainly encoded page per column and row group, so that row `r` of
//! a column of moments is at a known place and needs no decoding; any Parquet reader reads it too.

use crate::manifest::{LatentsMetadata, Shard};
use anyhow::{Context, Result, ensure};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::basic::Compression;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The columns.
pub fn schema(about: &LatentsMetadata) -> Schema {
    let width = about.width() as i32;
    let moments =
        about.columns().iter().map(|name| Field::new(*name, DataType::FixedSizeBinary(width), false));
    let keys = [Field::new("label", DataType::Int64, false), Field::new("source", DataType::Utf8, false)];
    Schema::new(moments.chain(keys).collect::<Vec<_>>())
}

/// How they are written.
pub fn properties(about: &LatentsMetadata) -> Result<WriterProperties> {
    let pair = |key: &str, value: String| KeyValue::new(key.to_string(), value);
    let mut metadata = vec![
        pair("shape", serde_json::to_string(&about.shape)?),
        pair("dtype", about.dtype.clone()),
        pair("scale", about.scale.to_string()),
        pair("vae", about.vae.clone()),
        pair("classes", about.classes.to_string()),
        pair("image_size", about.image_size.to_string()),
        pair("flipped", about.flipped.to_string()),
    ];
    if !about.class_names.is_empty() {
        metadata.push(pair("class_names", serde_json::to_string(&about.class_names)?));
    }
    Ok(WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_data_page_size_limit(usize::MAX)
        .set_data_page_row_count_limit(usize::MAX)
        .set_max_row_group_row_count(None)
        .set_key_value_metadata(Some(metadata))
        .build())
}

/// The digest of a column of labels.
pub fn digest_labels(labels: &[i64]) -> String {
    let bytes: Vec<u8> = labels.iter().flat_map(|l| l.to_le_bytes()).collect();
    blake3::hash(&bytes).to_hex().to_string()
}

/// A row group of an open file.
pub struct OpenGroup {
    /// Its first row in the file.
    pub first: usize,
    /// Where the values of each column of moments begin.
    pub values: Vec<usize>,
    /// Whether its digest has been found right.
    pub verified: AtomicBool,
}

/// Finds the row groups of a file whose footer has been verified.
pub fn groups(metadata: &ParquetMetaData, about: &LatentsMetadata, shard: &Shard) -> Result<Vec<OpenGroup>> {
    ensure!(metadata.num_row_groups() == shard.row_groups.len(), "it has not the row groups of the manifest");
    let mut first = 0;
    let mut groups = Vec::new();
    for (group, stated) in metadata.row_groups().iter().zip(&shard.row_groups) {
        let rows = group.num_rows() as usize;
        ensure!(rows == stated.rows, "a row group has {rows} rows, the manifest says {}", stated.rows);
        let mut values = Vec::new();
        for (column, name) in group.columns().iter().zip(about.columns()) {
            ensure!(column.column_path().string() == *name, "column {} is not {name}", column.column_path());
            let (start, length) = column.byte_range();
            let (end, size) = (start + length, (rows * about.width()) as u64);
            let inside = start >= stated.offset && end <= stated.offset + stated.bytes && size <= length;
            ensure!(
                inside && column.compression() == Compression::UNCOMPRESSED,
                "column {name} is not laid out as `encode` writes it"
            );
            // The page's header comes first, the values last.
            values.push((end - size) as usize);
        }
        groups.push(OpenGroup { first, values, verified: AtomicBool::new(false) });
        first += rows;
    }
    Ok(groups)
}

/// A file mapped into memory; clones share it.
#[derive(Clone)]
pub struct Map(Arc<memmap2::Mmap>);

impl Map {
    /// Maps a file.
    pub fn new(path: &Path) -> Result<Self> {
        let context = || format!("reading {}", path.display());
        let file = File::open(path).with_context(context)?;
        // SAFETY: outputs of a stage are never changed in place, and every part is checked against its digest before
        // use. A file that is cut short meanwhile ends the process with SIGBUS; nothing is written through the map.
        let map = unsafe { memmap2::Mmap::map(&file) }.with_context(context)?;
        Ok(Self(Arc::new(map)))
    }

    /// The whole file.
    pub fn bytes(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }

    /// Has the disk fetch a part that will soon be read, without waiting for it.
    pub fn fetch(&self, start: usize, length: usize) {
        // Advice only: where the system does not take it, the read itself waits.
        let _ = self.0.advise_range(memmap2::Advice::WillNeed, start, length);
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

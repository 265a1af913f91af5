//! Pictures in Parquet files with a column `image`, as the Hub lays datasets out.

use super::crop::Rgb;
use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use stage::{BadInputExt, bad_input};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Parquet files of pictures, in the order of their names.
pub struct Dataset {
    files: Vec<(PathBuf, usize)>,
}

impl Dataset {
    /// Finds `*.parquet` in `folder` and in its `data`.
    ///
    /// # Errors
    /// Bad input when there is none, or one has no readable footer or no column `image`.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut paths = Vec::new();
        for folder in [folder.to_path_buf(), folder.join("data")] {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries {
                let path = entry.with_context(|| format!("listing {}", folder.display()))?.path();
                if path.extension().is_some_and(|e| e == "parquet") {
                    paths.push(path);
                }
            }
        }
        paths.sort();
        if paths.is_empty() {
            bad_input!("{}: no Parquet files in it or in its folder data", folder.display())
        }
        let mut files = Vec::new();
        for path in paths {
            let reader = builder(&path)?;
            if reader.schema().field_with_name("image").is_err() {
                bad_input!("{}: no column image", path.display())
            }
            let rows = reader.metadata().file_metadata().num_rows();
            files.push((path, usize::try_from(rows).unwrap_or(0)));
        }
        Ok(Self { files })
    }

    /// How many pictures there are.
    pub fn len(&self) -> usize {
        self.files.iter().map(|(_, rows)| rows).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Height and width of the first picture.
    ///
    /// # Errors
    /// Bad input when it cannot be decoded.
    pub fn first_size(&self) -> Result<[usize; 2]> {
        let mut size = None;
        let stopped = self.for_each(&mut |_, picture, _| {
            size = Some([picture.height, picture.width]);
            anyhow::bail!("one is enough")
        });
        match size {
            Some(size) => Ok(size),
            None => stopped.map(|()| [0, 0]),
        }
    }

    /// Gives every picture with its place and label, in order.
    ///
    /// # Errors
    /// Bad input that names the file and row of the first picture that cannot be decoded; or the callback's.
    pub fn for_each(&self, give: &mut dyn FnMut(&str, Rgb, Option<i64>) -> Result<()>) -> Result<()> {
        for (path, _) in &self.files {
            let reader = builder(path)?;
            let columns = ProjectionMask::columns(reader.parquet_schema(), ["image", "label"]);
            let context = || format!("reading {}", path.display());
            let batches = reader.with_projection(columns).with_batch_size(256).build().bad_input(context)?;
            let mut row = 0;
            for batch in batches {
                let batch = batch.bad_input(context)?;
                for i in 0..batch.num_rows() {
                    let here = format!("{} row {row}", path.display());
                    let bytes = picture(&batch, i).bad_input(|| format!("reading {here}"))?;
                    let label = batch
                        .column_by_name("label")
                        .and_then(|c| c.as_primitive_opt::<Int64Type>())
                        .filter(|c| c.is_valid(i))
                        .map(|c| c.value(i));
                    let decoded = super::decode(bytes).bad_input(|| format!("decoding {here}"))?;
                    give(&here, decoded, label)?;
                    row += 1;
                }
            }
        }
        Ok(())
    }
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let context = || format!("reading {}", path.display());
    let file = File::open(path).bad_input(context)?;
    ParquetRecordBatchReaderBuilder::try_new(file).bad_input(context)
}

/// The encoded picture of a row: the column is `struct{bytes, …}` or plain binary.
fn picture(batch: &RecordBatch, row: usize) -> Result<&[u8]> {
    let column = batch.column_by_name("image").context("no column image")?;
    let bytes = match column.as_struct_opt() {
        Some(fields) => fields.column_by_name("bytes").context("column image has no field bytes")?,
        None => column,
    };
    if bytes.is_null(row) || column.is_null(row) {
        anyhow::bail!("no bytes")
    }
    if let Some(binary) = bytes.as_binary_opt::<i32>() {
        return Ok(binary.value(row));
    }
    let binary = bytes.as_binary_opt::<i64>().with_context(|| format!("image is {}", bytes.data_type()))?;
    Ok(binary.value(row))
}

//! Writes pictures as the Hub lays them out: `image: struct<bytes, path>` and `label`.

use crate::picture::Picture;
use anyhow::{Context, Result};
use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of a row group: a reader holds one in memory.
const GROUP: usize = 100;

/// A Parquet file of pictures being written. The same pictures give the same bytes.
pub struct PicturesWriter {
    path: PathBuf,
    writer: ArrowWriter<std::fs::File>,
    schema: Arc<Schema>,
    waiting: Vec<Picture>,
}

impl PicturesWriter {
    /// Starts the file `path`, with a column `label` when `labelled`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path, labelled: bool) -> Result<Self> {
        let context = || format!("writing {}", path.display());
        let mut fields = vec![Field::new("image", DataType::Struct(image_fields()), true)];
        if labelled {
            fields.push(Field::new("label", DataType::Int64, true));
        }
        let schema = Arc::new(Schema::new(fields));
        // The pictures are compressed already.
        let properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .build();
        let file = std::fs::File::create(path).with_context(context)?;
        let writer =
            ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).with_context(context)?;
        Ok(Self { path: path.into(), writer, schema, waiting: Vec::new() })
    }

    /// Appends a picture; its row is its place in this file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn push(&mut self, picture: Picture) -> Result<()> {
        self.waiting.push(picture);
        if self.waiting.len() < GROUP { Ok(()) } else { self.write() }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.write()?;
        self.writer.close().with_context(|| format!("writing {}", self.path.display()))?;
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.waiting);
        let bytes = BinaryArray::from_iter_values(rows.iter().map(|p| &p.bytes));
        let names = StringArray::from_iter_values(rows.iter().map(|p| &p.name));
        let image = StructArray::try_new(image_fields(), vec![Arc::new(bytes), Arc::new(names)], None)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(image)];
        if self.schema.fields().len() > 1 {
            columns.push(Arc::new(rows.iter().map(|p| p.label).collect::<Int64Array>()));
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let written = self.writer.write(&batch).and_then(|()| self.writer.flush());
        written.with_context(|| format!("writing {}", self.path.display()))
    }
}

fn image_fields() -> Fields {
    Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)])
}

//! Features on disk: a Parquet file with a row for each picture, or a folder of such files, which are one set together.
//!
//! Columns are `pool`, `spatial`, `logits` and perhaps `dinov2`, lists of f32 of one length each, and perhaps `label`. The footer
//! says under `evaluate` how they were made.

use super::Rows;
use crate::network::Network;
use crate::scores::Note;
use anyhow::{Context as _, Result, ensure};
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Int64Type, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use pictures::is_parquet;
use stage::{BadInputExt, bad_input};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::Tensor;

/// Key of the note in the footer.
const NOTE: &str = "evaluate";
/// Rows of a row group; they wait in memory, 20 kB each at full width.
const ROW_GROUP: usize = 1024;
/// Rows read at a time.
const ROWS_AT_ONCE: usize = 256;

/// Whether this is a file of features with a note of ours.
pub(crate) fn is_features(path: &Path) -> bool {
    let pairs = reader(path).map(|reader| reader.metadata().file_metadata().key_value_metadata().cloned());
    pairs.is_ok_and(|pairs| pairs.into_iter().flatten().any(|pair| pair.key == NOTE))
}

/// Files that are being read.
pub struct FeatureFiles {
    files: Vec<PathBuf>,
    count: usize,
    note: Option<Note>,
}

impl FeatureFiles {
    /// Opens a file of features or a folder of them; `None` where there is something else.
    ///
    /// # Errors
    /// Bad input when a file is damaged, or files of one folder were made with different weights or resizes.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let files = match (path.is_dir(), path.is_file()) {
            (true, _) => parquet_files(path)?,
            (_, true) => vec![path.to_path_buf()],
            // Nothing that can be read twice.
            _ => return Ok(None),
        };
        let mut opened = Self { files: Vec::new(), count: 0, note: None };
        for (i, file) in files.iter().enumerate() {
            if !is_parquet(file)? {
                return Ok(None);
            }
            let reader = reader(file)?;
            if reader.schema().field_with_name("pool").is_err() {
                return Ok(None);
            }
            let metadata = reader.metadata().file_metadata();
            let rows = usize::try_from(metadata.num_rows())?;
            let pairs = metadata.key_value_metadata().into_iter().flatten();
            let note = pairs.filter(|p| p.key == NOTE).find_map(|p| p.value.as_deref());
            let note: Option<Note> = note
                .map(serde_json::from_str)
                .transpose()
                .bad_input(|| format!("{}: its note `{NOTE}`", file.display()))?;
            let made_with = |n: &Option<Note>| n.as_ref().map(Note::made_with);
            if i > 0 && made_with(&note) != made_with(&opened.note) {
                bad_input!(
                    "{}: made with other weights, resize or sizes than {}; features of one folder are one set",
                    file.display(),
                    files[0].display()
                )
            }
            opened.count += rows;
            // Features of DINOv2 are there where all files have them.
            let dinov2 = |note: &Option<Note>| note.as_ref().and_then(|note| note.dinov2.clone());
            let agreed = if i > 0 && dinov2(&note) != dinov2(&opened.note) { None } else { dinov2(&note) };
            opened.note = note.map(|note| Note { dinov2: agreed, ..note });
            opened.files.push(file.clone());
        }
        if opened.files.is_empty() {
            return Ok(None);
        }
        if opened.count == 0 {
            bad_input!("{}: no features", path.display())
        }
        if let Some(note) = &mut opened.note {
            note.images = Some(opened.count);
        }
        Ok(Some(opened))
    }

    /// How many pictures they are of.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How they were made, where they say so.
    pub fn note(&self) -> Option<&Note> {
        self.note.as_ref()
    }

    /// Gives all rows in order.
    ///
    /// # Errors
    /// Bad input that names the file and column that are missing, of another width than the network's, or not finite; or the
    /// callback's.
    pub(crate) fn read(&self, network: &Network, give: &mut dyn FnMut(Rows) -> Result<()>) -> Result<()> {
        let mut first = 0;
        for path in &self.files {
            let context = || format!("reading {}", path.display());
            let reader = reader(path)?.with_batch_size(ROWS_AT_ONCE).build().bad_input(context)?;
            for batch in reader {
                let batch = batch.bad_input(context)?;
                let rows = unpack(&batch, first, network).bad_input(context)?;
                first += rows.count();
                give(rows)?;
            }
        }
        Ok(())
    }
}

fn unpack(batch: &RecordBatch, first: usize, network: &Network) -> Result<Rows> {
    let column = |name: &str, width: Option<i64>| -> Result<Tensor> {
        let array = batch.column_by_name(name).with_context(|| format!("no column {name}"))?;
        let values = lists(array).with_context(|| format!("column {name}"))?;
        let found = values.size()[1];
        if let Some(width) = width.filter(|w| *w != found) {
            anyhow::bail!(
                "column {name} has {found} features, the network gives {width}; it is of other weights"
            )
        }
        ensure!(
            values.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1,
            "column {name}: a number among the rows from {first} on is not finite"
        );
        Ok(values)
    };
    let dinov2 = match &network.dinov2 {
        Some(dinov2) => Some(column("dinov2", Some(dinov2.network.width()))?),
        None => None,
    };
    let labels = batch.column_by_name("label").filter(|l| l.null_count() == 0);
    let labels = labels.map(|l| {
        let l = l.as_primitive_opt::<Int64Type>().context("column label holds no 64-bit integers")?;
        anyhow::Ok(l.values().to_vec())
    });
    Ok(Rows {
        first,
        pool: column("pool", Some(network.inception.width()))?,
        spatial: column("spatial", None)?,
        logits: column("logits", Some(network.inception.classes()))?,
        dinov2,
        labels: labels.transpose()?,
    })
}

/// `[B, width]` of lists of one length.
fn lists(array: &ArrayRef) -> Result<Tensor> {
    let (values, width) = match array.data_type() {
        DataType::FixedSizeList(_, width) => {
            let list = array.as_fixed_size_list();
            let start = list.value_offset_at(0);
            (list.values().slice(start, list.len() * *width as usize), i64::from(*width))
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (start, end) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
            let width = list.value_length(0);
            let same = (0..list.len()).all(|i| list.value_length(i) == width);
            ensure!(same, "its lists are of different lengths");
            (list.values().slice(start, end - start), i64::from(width))
        }
        other => anyhow::bail!("it holds {other}, not lists of 32-bit floats"),
    };
    ensure!(array.null_count() == 0 && values.null_count() == 0, "a value is missing");
    let numbers = values.as_primitive_opt::<Float32Type>();
    let numbers =
        numbers.with_context(|| format!("lists of {}, not of 32-bit floats", values.data_type()))?;
    Ok(Tensor::f_from_slice(numbers.values())?.f_view([array.len() as i64, width])?)
}

/// A file that is being written.
pub(crate) struct FeatureWriter {
    path: PathBuf,
    note: Note,
    writer: Option<ArrowWriter<File>>,
}

impl FeatureWriter {
    /// At `path`, with a note in its footer.
    pub(crate) fn new(path: &Path, note: Note) -> Self {
        Self { path: path.into(), note, writer: None }
    }

    /// Appends rows; the first decide which columns there are.
    pub(crate) fn write(&mut self, rows: &Rows) -> Result<()> {
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("pool", list(&rows.pool)?),
            ("spatial", list(&rows.spatial)?),
            ("logits", list(&rows.logits)?),
        ];
        if let Some(dinov2) = &rows.dinov2 {
            columns.push(("dinov2", list(dinov2)?));
        }
        // One picture without a class leaves its batch without.
        let labels = match &rows.labels {
            Some(labels) => Int64Array::from(labels.clone()),
            None => Int64Array::from(vec![None; rows.count()]),
        };
        columns.push(("label", Arc::new(labels)));
        let fields: Vec<Field> =
            columns.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), *n == "label")).collect();
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|c| c.1).collect())?;
        let context = || format!("writing {}", self.path.display());
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let pair = KeyValue::new(NOTE.to_string(), serde_json::to_string(&self.note)?);
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
                    .set_dictionary_enabled(false)
                    .set_statistics_enabled(EnabledStatistics::None)
                    .set_max_row_group_row_count(Some(ROW_GROUP))
                    .set_key_value_metadata(Some(vec![pair]))
                    .build();
                let file = File::create(&self.path).with_context(context)?;
                self.writer
                    .insert(ArrowWriter::try_new(file, schema, Some(properties)).with_context(context)?)
            }
        };
        writer.write(&batch).with_context(context)
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> Result<()> {
        let writer = self.writer.context("no features to write")?;
        writer.close().with_context(|| format!("writing {}", self.path.display()))?;
        Ok(())
    }
}

fn list(rows: &Tensor) -> Result<ArrayRef> {
    let width = i32::try_from(rows.size()[1])?;
    let values = Vec::<f32>::try_from(rows.f_contiguous()?.f_view([-1])?)?;
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    Ok(Arc::new(FixedSizeListArray::try_new(item, width, Arc::new(Float32Array::from(values)), None)?))
}

fn reader(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let context = || format!("reading {}", path.display());
    let file = File::open(path).bad_input(context)?;
    ParquetRecordBatchReaderBuilder::try_new(file).bad_input(context)
}

fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("listing {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).bad_input(context)? {
        let entry = entry.bad_input(context)?;
        let (path, hidden) = (entry.path(), entry.file_name().to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|e| e == "parquet") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

//! Pictures in a Parquet file: a column of them (a struct of `bytes` and `path`, as the Hub has it, or bytes alone), perhaps one
//! of labels.

use crate::columns::{Column, Holds};
use crate::form;
use crate::labels::{Cell, Classes, cells, values};
use crate::picture::{Encoded, Picture};
use anyhow::{Context, Result, anyhow};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use stage::{BadInputExt, bad_input, sha256};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows decoded from Parquet at a time, at most.
const ROWS_AT_ONCE: usize = 64;
/// Bytes of them, about: a picture may have megabytes.
const BYTES_AT_ONCE: usize = 64 << 20;
/// Labels read at a time.
const LABELS_AT_ONCE: usize = 8192;

/// Which columns of a file are read.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    pub(crate) image: String,
    pub(crate) label: Option<String>,
}

/// A Parquet file of pictures.
#[derive(Clone, Debug)]
pub struct Table {
    /// Where it is.
    pub path: PathBuf,
    /// What errors call it.
    pub name: String,
    /// Rows.
    pub rows: usize,
    /// Whether it is as `download` lays it out: `image: struct<bytes: binary, path: string>`, `label: int64`, and no more.
    pub normal: bool,
    pub(crate) columns: Columns,
    /// What the labels mean.
    pub(crate) classes: Arc<Classes>,
    /// What the file's digest has to be.
    pub(crate) sha256: Option<String>,
    bytes_per_row: usize,
}

/// What the footer of a Parquet file says.
pub(crate) struct Footer {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    rows: usize,
    bytes: i64,
    schema: SchemaRef,
}

impl Columns {
    /// Those of the layout of `download`.
    pub(crate) fn usual(footer: &Footer) -> Result<Self> {
        if !footer.has("image") {
            bad_input!("{}: no column `image`; there are {}", footer.name, footer.names())
        }
        Ok(Self { image: "image".into(), label: footer.has("label").then(|| "label".into()) })
    }
}

impl Footer {
    /// Reads a file's footer.
    pub(crate) fn read(path: PathBuf, name: String) -> Result<Self> {
        let reader = open(&path)?;
        let metadata = reader.metadata();
        let bytes = metadata.row_groups().iter().map(|group| group.total_byte_size()).sum();
        let rows = usize::try_from(metadata.file_metadata().num_rows()).bad_input(|| name.clone())?;
        let pairs = metadata.file_metadata().key_value_metadata().into_iter().flatten();
        let hub = pairs.filter(|pair| pair.key == "huggingface").find_map(|pair| pair.value.as_deref());
        let hub: serde_json::Value = hub.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let schema = Arc::clone(reader.schema());
        let columns = schema.fields().iter().map(|field| {
            let feature = hub.pointer("/info/features").and_then(|features| features.get(field.name()));
            let classes = feature.and_then(|feature| feature.get("names")?.as_array());
            let classes = classes.filter(|names| !names.is_empty());
            let text =
                |name: &serde_json::Value| name.as_str().map_or_else(|| name.to_string(), String::from);
            Column {
                name: field.name().clone(),
                kind: field.data_type().to_string(),
                holds: holds(field.data_type()),
                classes: classes.map(|names| names.iter().map(text).collect()),
            }
        });
        Ok(Self { columns: columns.collect(), path, name, rows, bytes, schema })
    }

    /// Whether there is such a column.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|c| c.name == column)
    }

    /// The names of the classes of a column, where the file has them.
    pub(crate) fn class_names(&self, column: &str) -> Option<&[String]> {
        self.columns.iter().find(|c| c.name == column)?.classes.as_deref()
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    fn names(&self) -> String {
        self.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Gives a column of labels, with the rows they stand in.
    pub(crate) fn labels(
        &self,
        column: &str,
        each: &mut dyn FnMut(usize, &Cell) -> Result<()>,
    ) -> Result<()> {
        let context = || format!("reading {}", self.path.display());
        let reader = open(&self.path)?;
        let at = self.schema.index_of(column).bad_input(context)?;
        let mask = ProjectionMask::roots(reader.parquet_schema(), [at]);
        let batches =
            reader.with_projection(mask).with_batch_size(LABELS_AT_ONCE).build().bad_input(context)?;
        let mut row = 0;
        for batch in batches {
            let batch = batch.bad_input(context)?;
            let cells = cells(batch.column(0)).bad_input(|| format!("{}: column `{column}`", self.name))?;
            for cell in &cells {
                each(row, cell)?;
                row += 1;
            }
        }
        Ok(())
    }

    /// The pictures in these columns.
    pub(crate) fn table(self, columns: Columns, classes: Arc<Classes>) -> Table {
        Table {
            normal: self.normal(&columns),
            bytes_per_row: usize::try_from(self.bytes).unwrap_or(0) / self.rows.max(1),
            path: self.path,
            name: self.name,
            rows: self.rows,
            columns,
            classes,
            sha256: None,
        }
    }

    fn normal(&self, columns: &Columns) -> bool {
        let kind = |name: &str| self.schema.field_with_name(name).ok().map(|field| field.data_type());
        let image = match kind("image") {
            Some(DataType::Struct(parts)) => {
                parts.len() == 2
                    && parts[0].name() == "bytes"
                    && *parts[0].data_type() == DataType::Binary
                    && parts[1].name() == "path"
                    && *parts[1].data_type() == DataType::Utf8
            }
            _ => false,
        };
        let label = columns.label.as_deref();
        image
            && columns.image == "image"
            && label.is_none_or(|name| name == "label" && kind("label") == Some(&DataType::Int64))
            && self.columns.len() == 1 + usize::from(label.is_some())
    }
}

impl Table {
    /// A file by itself, with the columns that `choose` names.
    pub(crate) fn open(
        path: PathBuf,
        name: String,
        choose: &dyn Fn(&Footer) -> Result<Columns>,
    ) -> Result<Self> {
        let footer = Footer::read(path, name)?;
        let columns = choose(&footer)?;
        Ok(footer.table(columns, Arc::default()))
    }

    /// Every picture in order; with a digest, after the file has been found to have it.
    ///
    /// # Errors
    /// Bad input that names the file.
    pub fn read(&self) -> Result<impl Iterator<Item = Result<Encoded>> + use<>> {
        let context = || format!("reading {}", self.path.display());
        if let Some(stated) = &self.sha256
            && sha256(&self.path)? != *stated
        {
            bad_input!("{}: its SHA-256 is not the manifest's; download again", self.path.display())
        }
        let reader = open(&self.path)?;
        let schema = Arc::clone(reader.schema());
        let read = std::iter::once(&self.columns.image).chain(&self.columns.label);
        let read = read.map(|name| schema.index_of(name).bad_input(context)).collect::<Result<Vec<_>>>()?;
        let mask = ProjectionMask::roots(reader.parquet_schema(), read);
        let rows = (BYTES_AT_ONCE / self.bytes_per_row.max(1)).clamp(1, ROWS_AT_ONCE);
        let batches = reader.with_projection(mask).with_batch_size(rows).build().bad_input(context)?;
        Ok(Rows { table: self.clone(), batches, ready: VecDeque::new(), row: 0, failed: false })
    }

    /// Whether its pictures have labels.
    pub fn labelled(&self) -> bool {
        self.columns.label.is_some()
    }

    /// Leaves the labels out.
    pub(crate) fn drop_labels(&mut self) {
        self.normal &= !self.labelled();
        self.columns.label = None;
    }
}

/// The pictures of a Parquet file with a column `image` and perhaps a column `label` of integers.
///
/// # Errors
/// Bad input that names the file, and the row where one is at fault.
pub fn read_parquet(path: &Path) -> Result<impl Iterator<Item = Result<Picture>> + use<>> {
    let table = Table::open(path.into(), path.display().to_string(), &Columns::usual)?;
    Ok(table.read()?.map(|one| one.and_then(Encoded::present)))
}

/// Whether a file begins as Parquet does.
///
/// # Errors
/// Bad input when it cannot be read.
pub fn is_parquet(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|f| f.take(4).read_to_end(&mut start));
    read.bad_input(|| format!("reading {}", path.display()))?;
    Ok(start == b"PAR1")
}

/// Opens a Parquet file; what is none says what it is.
fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let context = || format!("reading {}", path.display());
    let mut file = File::open(path).bad_input(context)?;
    let mut start = Vec::new();
    (&mut file).take(1024).read_to_end(&mut start).bad_input(context)?;
    if let Some(what) = form::stand_in(&start) {
        bad_input!("{}: no Parquet file but {what}", path.display())
    }
    file.rewind().bad_input(context)?;
    ParquetRecordBatchReaderBuilder::try_new(file).bad_input(context)
}

fn holds(kind: &DataType) -> Holds {
    match kind {
        DataType::Dictionary(_, values) => holds(values),
        DataType::Struct(parts) => match parts.iter().find(|part| part.name() == "bytes") {
            Some(bytes) if holds(bytes.data_type()) == Holds::Pictures => Holds::Pictures,
            _ => Holds::Nothing,
        },
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Holds::Pictures,
        DataType::Boolean => Holds::Integers,
        kind if kind.is_integer() => Holds::Integers,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Holds::Others,
        kind if kind.is_floating() => Holds::Others,
        _ => Holds::Nothing,
    }
}

struct Rows {
    table: Table,
    batches: ParquetRecordBatchReader,
    ready: VecDeque<Encoded>,
    row: usize,
    failed: bool,
}

impl Iterator for Rows {
    type Item = Result<Encoded>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.failed {
            let batch = match self.batches.next()? {
                Ok(batch) => self.table.unpack(&batch, self.row),
                Err(e) => Err(e).with_context(|| format!("after row {}", self.row)),
            };
            match batch {
                Ok(pictures) => {
                    self.row += pictures.len();
                    self.ready.extend(pictures);
                }
                Err(e) => {
                    self.failed = true;
                    return Some(Err(e).bad_input(|| format!("reading {}", self.table.path.display())));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

impl Table {
    fn unpack(&self, batch: &RecordBatch, first: usize) -> Result<Vec<Encoded>> {
        let Columns { image: name, label } = &self.columns;
        let image = plain(batch.column_by_name(name).with_context(|| format!("no column `{name}`"))?)?;
        let (bytes, names) = match image.as_any().downcast_ref::<StructArray>() {
            Some(parts) => (
                plain(
                    parts
                        .column_by_name("bytes")
                        .with_context(|| format!("column `{name}` has no `bytes`"))?,
                )?,
                parts.column_by_name("path").map(plain).transpose()?,
            ),
            None => (Arc::clone(&image), None),
        };
        let labels = match label {
            Some(label) => Some(
                cells(batch.column_by_name(label).with_context(|| format!("no column `{label}`"))?)
                    .with_context(|| format!("column `{label}`"))?,
            ),
            None => None,
        };
        (0..batch.num_rows())
            .map(|i| {
                let path = names.as_ref().map(|names| text(names, i)).transpose()?.flatten();
                let there = image.is_valid(i) && bytes.is_valid(i);
                let fault = match (there, &path) {
                    (true, _) => None,
                    (false, Some(path)) => Some(format!("not a picture: no bytes, only the path {path}")),
                    (false, None) => Some("not a picture: the row has none (null)".to_string()),
                };
                let label = match &labels {
                    None => None,
                    Some(labels) => Some(
                        self.classes
                            .number(&labels[i])
                            .with_context(|| format!("row {} has no label", first + i))?,
                    ),
                };
                let bytes = if there { binary(&bytes, i, name)? } else { Vec::new() };
                let picture = Picture { row: first + i, name: path.unwrap_or_default(), bytes, label };
                Ok(Encoded { place: format!("{} {}", self.name, picture.place()), picture, fault })
            })
            .collect()
    }
}

/// The values themselves, where a column holds numbers that stand for them.
fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Dictionary(..) => values(array)?,
        _ => Arc::clone(array),
    })
}

fn binary(array: &ArrayRef, i: usize, name: &str) -> Result<Vec<u8>> {
    Ok(match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().value(i).to_vec(),
        DataType::LargeBinary => array.as_binary::<i64>().value(i).to_vec(),
        DataType::BinaryView => array.as_binary_view().value(i).to_vec(),
        other => return Err(anyhow!("column `{name}` holds {other}, not bytes")),
    })
}

fn text(array: &ArrayRef, i: usize) -> Result<Option<String>> {
    if !array.is_valid(i) || *array.data_type() == DataType::Null {
        return Ok(None);
    }
    Ok(Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(i).to_string(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(i).to_string(),
        DataType::Utf8View => array.as_string_view().value(i).to_string(),
        other => return Err(anyhow!("the paths of pictures are {other}, not text")),
    }))
}

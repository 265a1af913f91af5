//! A folder of pictures as `download` lays it out: Parquet files in the Hub's layout and a manifest of their digests.

use anyhow::{Context, Result, anyhow, ensure};
use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde::{Deserialize, Serialize};
use stage::{BadInputExt, bad_input, read_json, sha256};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// Rows decoded from Parquet at a time; a picture may have megabytes.
const ROWS_AT_ONCE: usize = 64;

/// `manifest.json` of a folder of pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Pictures in all files together.
    pub rows: usize,
    /// Number of classes; 1 where the source has no labels.
    pub classes: usize,
    /// Where they came from.
    pub source: String,
    /// Which state of the source; a commit for a dataset of the Hub.
    pub revision: String,
    /// The files, in order.
    pub files: Vec<File>,
    /// What was left out because it is no picture, `FILE row N (NAME)`, where some was allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad: Vec<String>,
}

/// One Parquet file of pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its place in the folder.
    pub path: String,
    /// Pictures.
    pub rows: usize,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, as the Hub states it.
    pub sha256: String,
}

/// One picture, still encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Its row in its file.
    pub row: usize,
    /// Its name, `0017.png`; empty where the file gives none.
    pub name: String,
    /// The PNG, JPEG or WebP file.
    pub bytes: Vec<u8>,
    /// Class, where there are labels.
    pub label: Option<i64>,
}

impl Picture {
    /// For errors, behind the name of the file: `row 17 (0017.png)`.
    pub fn place(&self) -> String {
        match self.name.as_str() {
            "" => format!("row {}", self.row),
            name => format!("row {} ({name})", self.row),
        }
    }
}

/// A folder that `download` wrote.
pub struct Pictures {
    folder: PathBuf,
    manifest: Manifest,
}

impl Pictures {
    /// Opens the folder; sizes are checked now, digests when a file is read.
    ///
    /// # Errors
    /// Bad input that names what is missing or cut short.
    pub fn open(folder: &Path) -> Result<Self> {
        let place = folder.join("manifest.json");
        let manifest: Manifest = read_json(&place)?;
        if manifest.rows != manifest.files.iter().map(|f| f.rows).sum::<usize>() || manifest.classes == 0 {
            bad_input!("{}: its numbers contradict each other; download again", place.display())
        }
        for file in &manifest.files {
            let path = folder.join(&file.path);
            let size = std::fs::metadata(&path).bad_input(|| format!("reading {}", path.display()))?.len();
            if size != file.bytes {
                bad_input!(
                    "{}: {size} bytes, the manifest says {}; download again",
                    path.display(),
                    file.bytes
                )
            }
        }
        Ok(Self { folder: folder.into(), manifest })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The pictures of one file, in order, after its digest has been found right.
    ///
    /// # Errors
    /// Bad input that names the file when it is not what was downloaded.
    pub fn read(&self, file: usize) -> Result<impl Iterator<Item = Result<Picture>> + use<>> {
        let stated = &self.manifest.files[file];
        let path = self.folder.join(&stated.path);
        let found = sha256(&path)?;
        if found != stated.sha256 {
            bad_input!("{}: its SHA-256 is not the manifest's; download again", path.display())
        }
        read_parquet(&path)
    }

    /// All pictures, in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Picture>> + '_ {
        (0..self.manifest.files.len()).flat_map(|file| match self.read(file) {
            Ok(pictures) => Box::new(pictures) as Box<dyn Iterator<Item = _>>,
            Err(e) => Box::new(std::iter::once(Err(e))),
        })
    }
}

/// How the pictures lie in a Parquet file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Rows.
    pub rows: usize,
    /// Whether there is a column `label`.
    pub labelled: bool,
    /// Number of classes, where the file's metadata names them.
    pub classes: Option<usize>,
    /// Whether the columns are `image: struct<bytes: binary, path: string>` and `label: int64` already.
    pub normal: bool,
}

impl Layout {
    /// Reads a file's footer.
    ///
    /// # Errors
    /// Bad input when it is no Parquet file or has no column `image`.
    pub fn of(path: &Path) -> Result<Self> {
        let reader = open(path)?;
        let metadata = reader.metadata().file_metadata();
        let hub =
            metadata.key_value_metadata().and_then(|all| all.iter().find(|pair| pair.key == "huggingface"));
        let about: Option<serde_json::Value> =
            hub.and_then(|pair| pair.value.as_deref()).and_then(|text| serde_json::from_str(text).ok());
        let names = about.as_ref().and_then(|json| json.pointer("/info/features/label/names")?.as_array());
        let field = |name| reader.schema().field_with_name(name).ok().map(|field| field.data_type().clone());
        let label = field("label");
        let normal_image = match field("image") {
            Some(DataType::Struct(parts)) => {
                parts.len() == 2
                    && parts[0].name() == "bytes"
                    && *parts[0].data_type() == DataType::Binary
                    && parts[1].name() == "path"
                    && *parts[1].data_type() == DataType::Utf8
            }
            _ => false,
        };
        Ok(Self {
            rows: metadata.num_rows() as usize,
            labelled: label.is_some(),
            classes: names.map(Vec::len).filter(|&n| n > 0),
            normal: normal_image
                && label.as_ref().is_none_or(|kind| *kind == DataType::Int64)
                && reader.schema().fields().len() == 1 + usize::from(label.is_some()),
        })
    }
}

/// The pictures of a Parquet file with a column `image` (struct of `bytes` and `path`, or bytes alone) and perhaps a column
/// `label` of integers.
///
/// # Errors
/// Bad input that names the file, and the row where one is at fault.
pub fn read_parquet(path: &Path) -> Result<impl Iterator<Item = Result<Picture>> + use<>> {
    let reader = open(path)?;
    let context = || format!("reading {}", path.display());
    let mask = ProjectionMask::columns(reader.parquet_schema(), ["image", "label"]);
    let batches = reader.with_projection(mask).with_batch_size(ROWS_AT_ONCE).build().bad_input(context)?;
    Ok(Rows { path: path.into(), batches, ready: VecDeque::new(), row: 0, failed: false })
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<std::fs::File>> {
    let context = || format!("reading {}", path.display());
    let file = std::fs::File::open(path).bad_input(context)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).bad_input(context)?;
    let schema = reader.schema();
    if schema.field_with_name("image").is_err() {
        let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        bad_input!("{}: no column `image`; there are {}", path.display(), names.join(", "))
    }
    Ok(reader)
}

struct Rows {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
    ready: VecDeque<Picture>,
    row: usize,
    failed: bool,
}

impl Iterator for Rows {
    type Item = Result<Picture>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.failed {
            let batch = match self.batches.next()? {
                Ok(batch) => unpack(&batch, self.row),
                Err(e) => Err(e).with_context(|| format!("after row {}", self.row)),
            };
            match batch {
                Ok(pictures) => {
                    self.row += pictures.len();
                    self.ready.extend(pictures);
                }
                Err(e) => {
                    self.failed = true;
                    return Some(Err(e).bad_input(|| format!("reading {}", self.path.display())));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

fn unpack(batch: &arrow::array::RecordBatch, first: usize) -> Result<Vec<Picture>> {
    let image = batch.column_by_name("image").context("no column `image`")?;
    let (bytes, names) = match image.as_any().downcast_ref::<StructArray>() {
        Some(parts) => (
            parts.column_by_name("bytes").context("column `image` has no `bytes`")?,
            parts.column_by_name("path"),
        ),
        None => (image, None),
    };
    let labels = batch.column_by_name("label").map(integers).transpose()?;
    (0..batch.num_rows())
        .map(|i| {
            let row = first + i;
            ensure!(image.is_valid(i) && bytes.is_valid(i), "row {row} has no picture");
            let label = match &labels {
                Some(labels) => {
                    ensure!(labels.is_valid(i), "row {row} has no label");
                    Some(labels.as_primitive::<Int64Type>().value(i))
                }
                None => None,
            };
            let name = names.filter(|n| n.is_valid(i)).map(|n| text(n, i)).transpose()?;
            Ok(Picture { row, name: name.unwrap_or_default(), bytes: binary(bytes, i)?, label })
        })
        .collect()
}

fn binary(array: &ArrayRef, i: usize) -> Result<Vec<u8>> {
    Ok(match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().value(i).to_vec(),
        DataType::LargeBinary => array.as_binary::<i64>().value(i).to_vec(),
        DataType::BinaryView => array.as_binary_view().value(i).to_vec(),
        other => return Err(anyhow!("column `image` holds {other}, not bytes")),
    })
}

fn text(array: &ArrayRef, i: usize) -> Result<String> {
    Ok(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(i).to_string(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(i).to_string(),
        DataType::Utf8View => array.as_string_view().value(i).to_string(),
        other => return Err(anyhow!("column `image.path` holds {other}, not text")),
    })
}

fn integers(array: &ArrayRef) -> Result<ArrayRef> {
    ensure!(array.data_type().is_integer(), "column `label` holds {}, not integers", array.data_type());
    arrow::compute::cast(array, &DataType::Int64).context("column `label`")
}

//! Folders to read, and what the program makes of them.

use arrow::array::{Array, ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use image::{ImageFormat, RgbImage};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use pictures::{Pictures, read_parquet};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

pub fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/digits")
}

/// The PNG files of the first digits.
pub fn pngs(count: usize) -> Vec<(Vec<u8>, i64)> {
    let all = read_parquet(&digits().join("train-00000-of-00002.parquet")).unwrap();
    all.take(count).map(|p| p.map(|p| (p.bytes, p.label.unwrap())).unwrap()).collect()
}

/// A small picture that differs from others in its colours.
pub fn picture(number: usize, format: ImageFormat) -> Vec<u8> {
    let pixels = RgbImage::from_fn(9, 7, |x, y| image::Rgb([(x * 20) as u8, (y * 30) as u8, number as u8]));
    let mut bytes = Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub fn png(number: usize) -> Vec<u8> {
    picture(number, ImageFormat::Png)
}

/// Writes a file, and the folders it is in.
pub fn put(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A column of pictures as the Hub has it, numbered from `first`.
pub fn images(first: usize, count: usize) -> ArrayRef {
    let numbers = first..first + count;
    let bytes = BinaryArray::from_iter_values(numbers.clone().map(png));
    let paths = StringArray::from_iter_values(numbers.map(|i| format!("{i}.png")));
    let fields: Fields =
        vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)].into();
    Arc::new(StructArray::new(fields, vec![Arc::new(bytes), Arc::new(paths)], None))
}

pub fn integers(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

pub fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Writes a Parquet file.
pub fn table(path: &Path, columns: &[(&str, ArrayRef)]) {
    table_as(path, columns, Compression::UNCOMPRESSED, None);
}

/// Writes a Parquet file in a codec, with what the Hub says of its columns.
pub fn table_as(
    path: &Path,
    columns: &[(&str, ArrayRef)],
    codec: Compression,
    features: Option<serde_json::Value>,
) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let fields = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch =
        RecordBatch::try_new(schema.clone(), columns.iter().map(|(_, array)| array.clone()).collect())
            .unwrap();
    let hub = features.map(|features| {
        KeyValue::new("huggingface".into(), serde_json::json!({"info": {"features": features}}).to_string())
    });
    let properties = WriterProperties::builder()
        .set_compression(codec)
        .set_key_value_metadata(hub.map(|hub| vec![hub]))
        .build();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

pub fn download(dir: &Path, folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_download"));
    command.env_remove("PIPELINE_EVENTS").env_remove("PIPELINE_STATE");
    command.current_dir(dir).args(["--images", "images", "--folder"]).arg(folder).args(more).output().unwrap()
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn opens(output: &Output, dir: &Path) -> Pictures {
    assert!(output.status.success(), "{}", said(output));
    Pictures::open(&dir.join("images")).unwrap()
}

/// Name and label of every picture.
pub fn rows(pictures: &Pictures) -> Vec<(String, Option<i64>)> {
    pictures.iter().map(|p| p.map(|p| (p.name, p.label)).unwrap()).collect()
}

/// The labels, each of which must be there.
pub fn labels(pictures: &Pictures) -> Vec<i64> {
    rows(pictures).into_iter().map(|(_, label)| label.unwrap()).collect()
}

pub fn refuses(output: &Output, dir: &Path, part: &str) {
    let text = said(output);
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!((output.status.code(), errors.len()), (Some(2), 1), "{text}");
    assert!(errors[0].contains(part), "{text}");
    assert!(!dir.join("images").exists());
}

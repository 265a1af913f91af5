//! Datasets of a few pictures, and calls of the program.

use arrow::array::{ArrayRef, BinaryArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use image::RgbImage;
use npz::Writer;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value as Json;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

pub const INCEPTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/digits/inception.safetensors");

/// A folder of a test's own.
pub struct Place(pub tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn put(&self, name: &str, content: &[u8]) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A Parquet file of pictures from number `first` on, one for each label.
    pub fn table(&self, name: &str, first: usize, labels: ArrayRef) {
        let bytes = BinaryArray::from_iter_values((first..first + labels.len()).map(png));
        self.parquet(name, &[("image", Arc::new(bytes)), ("label", labels)]);
    }

    pub fn parquet(&self, name: &str, columns: &[(&str, ArrayRef)]) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let fields = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let arrays = columns.iter().map(|(_, array)| array.clone()).collect();
        let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), schema.clone(), None).unwrap();
        writer.write(&RecordBatch::try_new(schema, arrays).unwrap()).unwrap();
        writer.close().unwrap();
    }

    /// Eight pictures in an archive, with labels of this type.
    pub fn archive(&self, name: &str, labels: Option<(&str, &[u8])>) {
        let mut writer = Writer::create(&self.at(name)).unwrap();
        writer.start("arr_0", "|u1", &[8, 32, 32, 3]).unwrap();
        (0..8).for_each(|i| writer.values(pixels(i).as_raw()).unwrap());
        if let Some((descr, values)) = labels {
            writer.start("arr_1", descr, &[8]).unwrap();
            writer.values(values).unwrap();
        }
        writer.finish().unwrap();
    }

    /// Scores of `samples` against `reference`.
    pub fn run(&self, samples: &str, reference: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evaluate"));
        command.env("OMP_WAIT_POLICY", "passive").env_remove("PIPELINE_EVENTS").env_remove("PIPELINE_STATE");
        command
            .args(["--device", "cpu", "--threads", "2", "--inception", INCEPTION])
            .current_dir(self.0.path());
        command.args(["--samples", samples, "--reference", reference, "--scores", "scores.json"]);
        command.args(more).output().unwrap()
    }

    pub fn scores(&self, samples: &str, reference: &str, more: &[&str]) -> Json {
        let output = self.run(samples, reference, more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        stage::read_json(&self.at("scores.json")).unwrap()
    }

    /// The one line of a refusal.
    pub fn refused(&self, samples: &str, reference: &str, more: &[&str]) -> String {
        let output = self.run(samples, reference, more);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), text.matches("error: ").count()), (Some(2), 1), "{text}");
        assert!(!self.at("scores.json").exists());
        text.lines().last().unwrap().to_string()
    }
}

pub fn pixels(number: usize) -> RgbImage {
    let wave = |at: u32, step: usize| (at as usize * (7 * step + 3) + 29 * number) as u8;
    RgbImage::from_fn(32, 32, |x, y| {
        image::Rgb([wave(x, number % 5), wave(y, number % 3), wave(x + y, number % 7)])
    })
}

pub fn png(number: usize) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    pixels(number).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

pub fn images(scores: &Json, side: &str) -> u64 {
    scores[side]["images"].as_u64().unwrap()
}

pub fn warnings(scores: &Json) -> Vec<&str> {
    let all = scores["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap());
    all.filter(|warning| !warning.contains("span fewer")).collect()
}

/// Kept features of so many pictures of ten classes, in this order of labels.
pub fn features(place: &Place, name: &str, labels: &[i64]) {
    let of_eight =
        ParquetRecordBatchReaderBuilder::try_new(fs::File::open(place.at("eight.parquet")).unwrap()).unwrap();
    let note = of_eight.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let batch = of_eight.build().unwrap().next().unwrap().unwrap();
    let list = |name: &str, value: &dyn Fn(i64, usize) -> f32| -> ArrayRef {
        let DataType::FixedSizeList(item, width) = batch.column_by_name(name).unwrap().data_type().clone()
        else {
            panic!()
        };
        let values = labels.iter().flat_map(|&label| (0..width as usize).map(move |i| (label, i)));
        let values: Float32Array = values.map(|(label, i)| value(label, i)).collect();
        Arc::new(FixedSizeListArray::try_new(item, width, Arc::new(values), None).unwrap())
    };
    // The network is sure of each picture's class.
    let sure = |label: i64, i: usize| if i as i64 == label { 5.0 } else { 0.0 };
    let columns = [
        ("pool", list("pool", &|label, i| ((label + 1) * i as i64 % 7) as f32)),
        ("spatial", list("spatial", &|label, i| ((label + 1) * i as i64 % 5) as f32)),
        ("logits", list("logits", &sure)),
        ("label", Arc::new(Int64Array::from(labels.to_vec())) as ArrayRef),
    ];
    let fields =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), *name == "label"));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let properties =
        parquet::file::properties::WriterProperties::builder().set_key_value_metadata(Some(note)).build();
    let file = fs::File::create(place.at(name)).unwrap();
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).unwrap();
    let arrays = columns.iter().map(|(_, array)| array.clone()).collect();
    writer.write(&RecordBatch::try_new(schema, arrays).unwrap()).unwrap();
    writer.close().unwrap();
}

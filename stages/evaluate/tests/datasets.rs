//! Datasets as people have them, on either side; statistics and labels of others.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use arrow::array::{
    Array, ArrayRef, BinaryArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use image::RgbImage;
use npz::Writer;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value as Json;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

const INCEPTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/digits/inception.safetensors");

/// A folder of a test's own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A Parquet file of pictures from number `first` on, one for each label.
    fn table(&self, name: &str, first: usize, labels: ArrayRef) {
        let bytes = BinaryArray::from_iter_values((first..first + labels.len()).map(png));
        self.parquet(name, &[("image", Arc::new(bytes)), ("label", labels)]);
    }

    fn parquet(&self, name: &str, columns: &[(&str, ArrayRef)]) {
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
    fn archive(&self, name: &str, labels: Option<(&str, &[u8])>) {
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
    fn run(&self, samples: &str, reference: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evaluate"));
        command.env("OMP_WAIT_POLICY", "passive").env_remove("PIPELINE_EVENTS").env_remove("PIPELINE_STATE");
        command
            .args(["--device", "cpu", "--threads", "2", "--inception", INCEPTION])
            .current_dir(self.0.path());
        command.args(["--samples", samples, "--reference", reference, "--scores", "scores.json"]);
        command.args(more).output().unwrap()
    }

    fn scores(&self, samples: &str, reference: &str, more: &[&str]) -> Json {
        let output = self.run(samples, reference, more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        stage::read_json(&self.at("scores.json")).unwrap()
    }

    /// The one line of a refusal.
    fn refused(&self, samples: &str, reference: &str, more: &[&str]) -> String {
        let output = self.run(samples, reference, more);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), text.matches("error: ").count()), (Some(2), 1), "{text}");
        assert!(!self.at("scores.json").exists());
        text.lines().last().unwrap().to_string()
    }
}

fn pixels(number: usize) -> RgbImage {
    let wave = |at: u32, step: usize| (at as usize * (7 * step + 3) + 29 * number) as u8;
    RgbImage::from_fn(32, 32, |x, y| {
        image::Rgb([wave(x, number % 5), wave(y, number % 3), wave(x + y, number % 7)])
    })
}

fn png(number: usize) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    pixels(number).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn images(scores: &Json, side: &str) -> u64 {
    scores[side]["images"].as_u64().unwrap()
}

fn warnings(scores: &Json) -> Vec<&str> {
    let all = scores["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap());
    all.filter(|warning| !warning.contains("span fewer")).collect()
}

#[test]
fn litter_and_links_that_go_round_are_no_pictures() {
    let place = Place::new();
    for i in 0..8 {
        place.put(&format!("samples/{i}.png"), &png(i));
    }
    place.archive("eight.npz", None);
    let plain = place.scores("samples", "eight.npz", &[]);
    assert_eq!((images(&plain, "samples"), images(&plain, "reference")), (8, 8));
    assert!(plain["fid"].as_f64().unwrap().abs() < 1e-6, "{plain}");
    place.put("samples/.ipynb_checkpoints/0-checkpoint.png", &png(0));
    place.put("samples/._1.png", b"AppleDouble");
    place.put("samples/README.md", b"about");
    symlink(".", place.at("samples/here")).unwrap();
    assert_eq!(place.scores("samples", "eight.npz", &[])["fid"], plain["fid"]);
    assert_eq!(place.scores("eight.npz", "samples", &[])["reference"]["images"], 8);

    place.put("samples/9.heic", b"\0\0\0\x18ftypheic");
    fs::remove_file(place.at("scores.json")).unwrap();
    assert!(
        place
            .refused("samples", "eight.npz", &[])
            .contains("samples/9.heic: a picture in HEIF, which is not read")
    );
    fs::remove_file(place.at("samples/9.heic")).unwrap();
    assert!(Command::new("mkfifo").arg(place.at("samples/a.png")).status().unwrap().success());
    assert!(place.refused("samples", "eight.npz", &[]).contains("a.png is a fifo"));
}

#[test]
fn a_clone_of_a_dataset_is_its_pictures_and_not_its_screenshots() {
    let place = Place::new();
    place.archive("eight.npz", None);
    place.table("clone/data/train-00000-of-00001.parquet", 0, Arc::new(Int64Array::from(vec![0; 8])));
    place.put("clone/assets/shot.png", &png(1));
    let error = place.refused("eight.npz", "clone", &[]);
    let both = "both Parquet files (data/train-00000-of-00001.parquet) and pictures (assets/shot.png)";
    assert!(error.contains(both), "{error}");
    assert_eq!(images(&place.scores("eight.npz", "clone/data", &[]), "reference"), 8);
}

#[test]
fn the_reference_is_of_one_split_and_one_configuration() {
    let place = Place::new();
    place.archive("eight.npz", None);
    let labels = |count: usize| Arc::new(Int64Array::from(vec![0; count])) as ArrayRef;
    place.table("split/train.parquet", 0, labels(6));
    place.table("split/test.parquet", 6, labels(4));
    assert_eq!(images(&place.scores("eight.npz", "split", &[]), "reference"), 6);
    assert_eq!(images(&place.scores("eight.npz", "split", &["--split", "test"]), "reference"), 4);
    fs::remove_file(place.at("scores.json")).unwrap();
    let error = place.refused("eight.npz", "split", &["--split", "val"]);
    assert!(error.contains("--split val: the dataset has test, train"), "{error}");
    let error = place.refused("split", "eight.npz", &[]);
    assert!(error.contains("the splits test, train; name the file or folder of one of them"), "{error}");

    place.table("two/a/train/0000.parquet", 0, labels(3));
    place.table("two/b/train/0000.parquet", 0, labels(5));
    assert!(
        place
            .refused("eight.npz", "two", &[])
            .contains("several configurations: a, b; choose one with --config")
    );
    assert_eq!(images(&place.scores("eight.npz", "two", &["--config", "b"]), "reference"), 5);
    for name in [
        "tree/train/ant/0.png",
        "tree/train/bee/1.png",
        "tree/val/bee/2.png",
        "tree/val/bee/3.png",
        "tree/val/bee/4.png",
        "tree/val/bee/five.png",
    ] {
        place.put(name, &png(name.len()));
    }
    assert_eq!(images(&place.scores("eight.npz", "tree", &["--split", "val"]), "reference"), 4);
    assert_eq!(images(&place.scores("split/test.parquet", "eight.npz", &[]), "samples"), 4);
}

#[test]
fn labels_that_are_none_cost_the_score_of_the_classes_alone() {
    let place = Place::new();
    let two = [0i32, 1, 0, 1, 0, 1, 0, 1];
    place.archive("eight.npz", Some(("<i4", &two.map(i32::to_le_bytes).concat())));
    let texts = StringArray::from(vec!["ant", "bee", "ant", "bee", "ant", "bee", "ant", "bee"]);
    place.table("text/a.parquet", 0, Arc::new(texts));
    let nulls = Int64Array::from(vec![Some(0), None, Some(1), Some(0), Some(1), Some(0), Some(1), Some(0)]);
    place.table("null/a.parquet", 0, Arc::new(nulls));
    let scores = place.scores("eight.npz", "text", &["--more"]);
    let classes = scores["classes"].as_array().unwrap();
    assert_eq!((classes.len(), classes[1]["reference"].as_u64()), (2, Some(4)));
    let scores = place.scores("eight.npz", "null", &["--more"]);
    assert!(scores["classes"].as_array().unwrap().is_empty() && scores["fid"].is_f64());
    assert!(warnings(&scores).contains(&"FID by class: a.parquet row 1: no label"), "{scores}");
    let scores = place.scores("eight.npz", "null", &[]);
    assert_eq!(warnings(&scores), [""; 0]);
    fs::remove_file(place.at("scores.json")).unwrap();
    let error = place.refused("eight.npz", "null", &["--label-column", "label"]);
    assert!(error.contains("a.parquet row 1: no label"), "{error}");
}

#[test]
fn classes_are_compared_by_name() {
    let place = Place::new();
    for i in 0..4 {
        place.put(&format!("samples/ant/{i}.png"), &png(i));
        place.put(&format!("samples/cow/{i}.png"), &png(i + 4));
        place.put(&format!("reference/bee/{i}.png"), &png(i + 8));
        place.put(&format!("reference/cow/{i}.png"), &png(i + 4));
    }
    let scores = place.scores("samples", "reference", &["--more"]);
    let classes = scores["classes"].as_array().unwrap();
    // Class 1 of both is cow; ant and bee, class 0 of each, are not the same.
    assert_eq!((classes.len(), classes[0]["name"].as_str()), (1, Some("cow")), "{scores}");
    assert!(classes[0]["fid"].as_f64().unwrap().abs() < 1e-6, "{scores}");
}

#[test]
fn labels_in_archives_are_of_any_integer_type_and_labels() {
    let place = Place::new();
    place.archive("reference.npz", None);
    let halves = [0, 1, 0, 1, 0, 1, 0, 1i16];
    place.archive("eight.npz", Some(("<i2", &halves.map(i16::to_le_bytes).concat())));
    assert_eq!(images(&place.scores("eight.npz", "reference.npz", &[]), "samples"), 8);
    fs::remove_file(place.at("scores.json")).unwrap();
    place.archive("eight.npz", Some(("<f4", &[0.5f32; 8].map(f32::to_le_bytes).concat())));
    let error = place.refused("eight.npz", "reference.npz", &[]);
    assert!(error.contains("arr_1.npy: 0.5 for picture 0 is no label"), "{error}");
}

/// Statistics of so many features, whose covariance has one number off the diagonal.
fn statistics(place: &Place, name: &str, width: usize, off: [f64; 2]) {
    let mut sigma = vec![0.0; width * width];
    (0..width).for_each(|i| sigma[i * width + i] = 1.0);
    (sigma[1], sigma[width]) = (off[0], off[1]);
    let bytes = |values: &[f64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut writer = Writer::create(&place.at(name)).unwrap();
    writer.start("mu", "<f8", &[width]).unwrap();
    writer.values(&bytes(&vec![0.5; width])).unwrap();
    writer.start("sigma", "<f8", &[width, width]).unwrap();
    writer.values(&bytes(&sigma)).unwrap();
    writer.finish().unwrap();
}

#[test]
fn statistics_of_fid_alone_give_fid_alone() {
    let place = Place::new();
    place.archive("eight.npz", None);
    let scores = place.scores("eight.npz", "eight.npz", &[]);
    let width = scores["inception"]["width"].as_u64().unwrap() as usize;
    statistics(&place, "fid.npz", width, [0.1, 0.1]);
    let scores = place.scores("eight.npz", "fid.npz", &[]);
    assert!(
        scores["fid"].as_f64().unwrap() > 0.0 && scores["sfid"].is_null() && scores["precision"].is_null(),
        "{scores}"
    );
    let said = warnings(&scores);
    assert!(
        said.iter().any(|w| w.starts_with("sFID: the reference holds mu and sigma, but neither")),
        "{said:?}"
    );
    assert!(
        said.iter().any(|w| w.starts_with("precision and recall: the reference holds statistics")),
        "{said:?}"
    );
    assert!(!said.iter().any(|w| w.contains("DINOv2")), "{said:?}");
    fs::remove_file(place.at("scores.json")).unwrap();

    statistics(&place, "skew.npz", width, [0.1, 0.3]);
    let error = place.refused("eight.npz", "skew.npz", &[]);
    assert!(error.contains("skew.npz: mu, sigma: no covariance, it is not symmetric at [0, 1]"), "{error}");
}

#[test]
fn weights_that_are_no_numbers_end_it_with_their_name() {
    let place = Place::new();
    place.archive("eight.npz", None);
    let mut bytes = fs::read(INCEPTION).unwrap();
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let json: Json = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let name = "Conv2d_2a_3x3.conv.weight";
    let offset = json[name]["data_offsets"][0].as_u64().unwrap() as usize;
    let number: &[u8] = if json[name]["dtype"] == "F16" { &[0, 0x7e] } else { &[0, 0, 0xc0, 0x7f] };
    bytes[8 + header + offset..][..number.len()].copy_from_slice(number);
    place.put("nan.safetensors", &bytes);
    let output = Command::new(env!("CARGO_BIN_EXE_evaluate"))
        .current_dir(place.0.path())
        .args([
            "--device",
            "cpu",
            "--inception",
            "nan.safetensors",
            "--samples",
            "eight.npz",
            "--reference",
            "eight.npz",
        ])
        .args(["--scores", "scores.json"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), text.matches("error: ").count()), (Some(1), 1), "{text}");
    assert!(
        text.contains(&format!("tensor {name} holds numbers that are none")) && !text.contains("frame #"),
        "{text}"
    );
}

/// Kept features of so many pictures of ten classes, in this order of labels.
fn features(place: &Place, name: &str, labels: &[i64]) {
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

#[test]
fn an_inception_score_of_sorted_samples_says_what_it_is() {
    let place = Place::new();
    place.archive("eight.npz", None);
    place.scores("eight.npz", "eight.npz", &["--features", "eight.parquet"]);
    let sorted: Vec<i64> = (0..15_000).map(|i| i / 1500).collect();
    let mixed: Vec<i64> = (0..15_000).map(|i| i % 10).collect();
    features(&place, "sorted.parquet", &sorted);
    features(&place, "mixed.parquet", &mixed);
    let score = |samples: &str| {
        let scores = place.scores(samples, "eight.parquet", &[]);
        let said: Vec<String> = warnings(&scores)
            .into_iter()
            .filter(|w| w.starts_with("Inception Score"))
            .map(String::from)
            .collect();
        (scores["inception_score"].as_f64().unwrap(), said)
    };
    let ((by_label, said), (in_mixed_order, nothing)) = (score("sorted.parquet"), score("mixed.parquet"));
    assert!(by_label < 0.6 * in_mixed_order && nothing.is_empty(), "{by_label} {in_mixed_order} {nothing:?}");
    let would = format!("it would be {in_mixed_order:.4} in place of {by_label:.4}");
    assert!(
        said.len() == 1 && said[0].contains("in the order of their labels") && said[0].contains(&would),
        "{said:?}"
    );
}

/// Two files are one set for FID, whether DINOv2, which was not asked for, saw both or not.
#[test]
fn what_was_not_asked_for_is_no_matter() {
    let place = Place::new();
    place.archive("eight.npz", None);
    place.scores("eight.npz", "eight.npz", &["--features", "eight.parquet"]);
    features(&place, "plain.parquet", &[0, 1, 2]);
    fs::create_dir(place.at("set")).unwrap();
    fs::rename(place.at("plain.parquet"), place.at("set/1.parquet")).unwrap();
    // The same with a note of features of DINOv2.
    let path: &Path = &place.at("set/0.parquet");
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(fs::File::open(place.at("set/1.parquet")).unwrap()).unwrap();
    let mut note = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
    for pair in note.iter_mut().filter(|pair| pair.key == "evaluate") {
        let mut json: Json = serde_json::from_str(pair.value.as_deref().unwrap()).unwrap();
        json["dinov2"] = "00".into();
        pair.value = Some(json.to_string());
    }
    note.retain(|pair| pair.key == "evaluate");
    let schema = reader.schema().clone();
    let batch = reader.build().unwrap().next().unwrap().unwrap();
    let properties =
        parquet::file::properties::WriterProperties::builder().set_key_value_metadata(Some(note)).build();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert_eq!(images(&place.scores("set", "eight.npz", &[]), "samples"), 6);
}

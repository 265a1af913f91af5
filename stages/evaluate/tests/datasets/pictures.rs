//! What of a dataset is a picture, and which pictures are taken.

use crate::support::{Place, features, images, png};
use arrow::array::{ArrayRef, Int64Array};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value as Json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

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

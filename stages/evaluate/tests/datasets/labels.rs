//! Labels and the scores that need them.

use crate::support::{Place, images, png, warnings};
use arrow::array::{Int64Array, StringArray};
use std::fs;
use std::sync::Arc;

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

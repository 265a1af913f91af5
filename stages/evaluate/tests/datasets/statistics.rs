//! Statistics and features of others, and weights that are no numbers.

use crate::support::{INCEPTION, Place, features, warnings};
use npz::Writer;
use serde_json::Value as Json;
use std::fs;
use std::process::Command;

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

//! Several networks on one page: gating maps and samples side by side, and a panel for each size.

use crate::inputs::{checkpoint_of, done, refused, run, scores};
use base64::Engine as _;
use models::analysis::Gating;
use models::config::{Architecture, Config};
use models::diffusion::NoiseSchedule;
use models::interchange::{self, Hints};
use serde_json::{Value as Json, json};
use std::fs;
use std::path::{Path, PathBuf};
use tch::Device;

/// The networks of the maps, by variant: experts and experts kept.
const NETWORKS: [(&str, i64, i64); 5] = [("a", 3, 1), ("b", 3, 2), ("c", 4, 2), ("d", 4, 3), ("e", 2, 1)];

fn config(experts: i64, top_k: i64) -> Config {
    Config { experts, top_k, ..Config::preset("switch-dit-tiny/2", 8, 10).unwrap() }
}

/// The gates of a checkpoint's average.
fn gating(checkpoints: &Path) -> Gating {
    let network =
        interchange::read(checkpoints, &Hints::default()).unwrap().network(Some(0.9999), Device::Cpu);
    Gating::of(&network.unwrap()).unwrap()
}

/// A file as in `pipelines/published/` that only names these rows.
fn named(path: &Path, rows: &[&str]) -> PathBuf {
    let rows =
        rows.iter().map(|name| json!({"variant": name, "name": format!("row {name}"), "published": {}}));
    let rows: Vec<Json> = rows.collect();
    fs::write(
        path,
        json!({"title": "A figure", "source": "", "notes": ["A note."], "rows": rows}).to_string(),
    )
    .unwrap();
    path.into()
}

/// The pictures that a page holds, in their order.
fn pictures(page: &str) -> Vec<image::RgbaImage> {
    let pictures = page.split("href=\"data:image/png;base64,").skip(1).map(|rest| {
        let text = rest.split('"').next().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        image::load_from_memory(&bytes).unwrap().into_rgba8()
    });
    pictures.collect()
}

#[test]
fn gating_maps_stand_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let networks = dir.path().join("networks");
    for (name, experts, top_k) in NETWORKS {
        checkpoint_of(&networks.join(name), config(experts, top_k), NoiseSchedule::Linear, Json::Null);
    }
    let gateless = Config { architecture: Architecture::Dit, ..config(3, 2) };
    checkpoint_of(&networks.join("f"), gateless, NoiseSchedule::Linear, Json::Null);
    let published = named(&dir.path().join("names.json"), &["a", "b", "c", "d", "e", "f", "not-run"]);
    let out = dir.path().join("report");
    let inputs = [("variant-checkpoints", networks.as_path()), ("published", &published), ("report", &out)];
    done(&inputs, &["--gating-maps", "true", "--title", "Maps"]);

    // Each map, its rows in the order of the prior's columns, and below it the prior; the networks in their order.
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    let pictures = pictures(&html);
    assert_eq!(pictures.len(), 2 * NETWORKS.len());
    for (i, (name, experts, top_k)) in NETWORKS.into_iter().enumerate() {
        let gating = gating(&networks.join(name));
        assert_eq!((gating.experts, gating.top_k), (experts as usize, top_k as usize));
        let mut order: Vec<usize> = (0..gating.columns()).collect();
        order.sort_by_key(|column| gating.matching[*column]);
        let (learned, prior) = (&pictures[2 * i], &pictures[2 * i + 1]);
        assert_eq!(learned.width() as usize, gating.timesteps);
        let tall = learned.height() as usize / gating.columns();
        for t in (0..gating.timesteps).step_by(37) {
            for (row, &column) in order.iter().enumerate() {
                let ink =
                    |picture: &image::RgbaImage| picture.get_pixel(t as u32, (row * tall) as u32).0[3] == 255;
                assert_eq!(ink(learned), gating.keeps(t, column), "{name}: t {t}, row {row}");
                assert_eq!(ink(prior), gating.wanted(t, column), "{name}: t {t}, row {row} of the prior");
            }
        }
        assert!(html.contains(&format!(">row {name}</text>")), "{name} has no title");
        assert!(out.join(format!("gating-{name}.parquet")).is_file());
    }
    let text = fs::read_to_string(out.join("report.md")).unwrap();
    let blocks = Config::preset("switch-dit-tiny/2", 8, 10).unwrap().blocks;
    for part in [
        &format!("| row c | {blocks} | 4 | 2 | ") as &str,
        "Without gates: row f.",
        "A note.",
        "figures/gating-maps.svg",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    for ending in ["svg", "png", "pdf"] {
        assert!(out.join(format!("figures/gating-maps.{ending}")).is_file());
    }
    // There are no scores, so there is no table.
    assert!(!out.join("comparison.csv").exists() && !text.contains("## Comparison"), "{text}");
}

#[test]
fn maps_that_cannot_be_drawn_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (networks, out) = (dir.path().join("networks"), dir.path().join("report"));
    let gateless = Config { architecture: Architecture::Dit, ..config(3, 2) };
    let lone = checkpoint_of(&networks.join("f"), gateless, NoiseSchedule::Linear, Json::Null);
    let maps = ["--gating-maps", "true"];
    refused(
        &run(&[("variant-checkpoints", &networks), ("report", &out)], &maps),
        &["--gating-maps", "no variant"],
    );
    refused(
        &run(&[("checkpoints", &lone), ("report", &out)], &maps),
        &["--gating-maps", "--variant-checkpoints"],
    );
    // Networks alone are no comparison.
    refused(&run(&[("variant-checkpoints", &networks), ("report", &out)], &[]), &["no variant has scores"]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    let empty = dir.path().join("empty");
    refused(&run(&[("variant-checkpoints", &empty), ("report", &out)], &maps), &["empty", "no variants"]);
    assert!(!out.exists());
}

/// Samples of 4×4 pixels: red is the variant, green the sample, blue its label.
fn sampled(folder: &Path, variant: u8, labels: &[i64]) {
    fs::create_dir_all(folder).unwrap();
    let mut npz = npz::Writer::create(&folder.join("samples.npz")).unwrap();
    npz.start("arr_0", "|u1", &[labels.len(), 4, 4, 3]).unwrap();
    let pixels = |i: usize| [variant, i as u8, labels[i] as u8].repeat(16);
    npz.values(&(0..labels.len()).flat_map(pixels).collect::<Vec<u8>>()).unwrap();
    npz.integers("arr_1", labels).unwrap();
    npz.finish().unwrap();
}

#[test]
fn samples_stand_side_by_side_at_the_same_places() {
    let dir = tempfile::tempdir().unwrap();
    let all = dir.path().join("samples");
    let labels: Vec<i64> = (0..30).map(|i| i % 5).collect();
    for (variant, name) in ["x", "y", "z"].into_iter().enumerate() {
        sampled(&all.join(name), variant as u8 + 1, &labels);
    }
    let published = named(&dir.path().join("names.json"), &["z", "x", "y"]);
    let out = dir.path().join("report");
    let inputs = [("variant-samples", all.as_path()), ("published", &published), ("report", &out)];
    done(&inputs, &["--classes", "3", "--per-class", "4"]);
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    let pictures = pictures(&html);
    assert_eq!(pictures.len(), 3);
    for (picture, variant) in pictures.iter().zip([3, 1, 2]) {
        // Classes 0, 2 and 4 of five; the samples of a class lie five apart.
        for (row, label) in [0, 2, 4].into_iter().enumerate() {
            for column in 0..4 {
                let pixel = picture.get_pixel(column * 6 + 1, row as u32 * 6 + 1).0;
                assert_eq!(pixel, [variant, (label + 5 * column) as u8, label as u8, 255]);
            }
        }
    }
    let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(at(">row z</text>") < at(">row x</text>") && at(">row x</text>") < at(">row y</text>"));
    for ending in ["svg", "png", "pdf"] {
        assert!(out.join(format!("figures/samples-side-by-side.{ending}")).is_file());
    }
    for name in ["x", "y", "z"] {
        let picture = image::open(out.join(format!("figures/samples-of-{name}.png"))).unwrap();
        assert_eq!((picture.width(), picture.height()), (4 * 6 - 2, 3 * 6 - 2));
    }

    // Places that do not belong together, or are not there.
    let none = dir.path().join("none");
    sampled(&all.join("z"), 9, &labels.iter().map(|label| 4 - label).collect::<Vec<_>>());
    let refusal = || run(&[("variant-samples", all.as_path()), ("report", &none)], &[]);
    refused(&refusal(), &["z/samples.npz", "sample 0 is of class 4", "class 0", "--seed"]);
    sampled(&all.join("z"), 9, &labels[..10]);
    refused(&refusal(), &["z/samples.npz", "10 samples", "--images"]);
    assert!(!none.exists());
}

/// Figure 5: a panel for each size, in which a system has the same colour as in the others.
#[test]
fn scores_of_checkpoints_have_a_panel_for_each_size() {
    let dir = tempfile::tempdir().unwrap();
    let all = dir.path().join("scores");
    let table = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipelines/published/figure-5.json"));
    let published: Json = serde_json::from_slice(&fs::read(table).unwrap()).unwrap();
    for (i, row) in published["rows"].as_array().unwrap().iter().enumerate() {
        let folder = all.join(row["variant"].as_str().unwrap());
        fs::create_dir_all(&folder).unwrap();
        for step in 1..=4 {
            let mut scored = scores();
            scored["fid"] = json!((100.0 + i as f64) / f64::from(step));
            fs::write(folder.join(format!("step-{:08}.json", step * 100_000)), scored.to_string()).unwrap();
        }
    }
    let out = dir.path().join("report");
    done(&[("variant-scores", &all), ("published", table), ("report", &out)], &[]);
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    let figure = html.split("<figure id=\"convergence\"").nth(1).unwrap().split("</figure>").next().unwrap();
    let at = |text: &str| figure.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(at(">FID: S</text>") < at(">FID: B</text>") && at(">FID: B</text>") < at(">FID: XL</text>"));
    for system in ["DiT", "DTR", "Switch-DiT"] {
        assert_eq!(figure.matches(&format!(">{system}</text>")).count(), 3, "{system}");
    }
    // A line and its legend for each system in each panel, in three colours alone.
    for look in ["s0", "s1", "s2"] {
        assert_eq!(figure.matches(&format!("<polyline class=\"{look}\"")).count(), 6, "{look}");
    }
    assert!(!figure.contains("class=\"s3\""));
}

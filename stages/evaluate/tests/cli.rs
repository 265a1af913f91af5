//! The program itself: the recorded run of ADM's evaluator, and mistakes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../crates/models/tests/recipe/mod.rs"]
mod recipe;

use recipe::{golden, json};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/digits");

fn run(arguments: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evaluate"));
    // Programs that share two cores must not spin while they wait for their threads.
    command.env("OMP_WAIT_POLICY", "passive");
    command.args(["--device", "cpu"]).env_remove("PIPELINE_EVENTS").env_remove("PIPELINE_STATE");
    if !arguments.iter().any(|(flag, _)| *flag == "threads") {
        command.args(["--threads", "2"]);
    }
    for (flag, value) in arguments {
        command.arg(format!("--{flag}")).arg(value);
    }
    command.output().unwrap()
}

fn done(arguments: &[(&str, &Path)]) {
    let output = run(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The last line of stderr of a run that must be refused.
fn refused(arguments: &[(&str, &Path)]) -> String {
    let output = run(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let last = text.lines().last().unwrap().to_string();
    assert!(last.starts_with("error: "), "{text}");
    last
}

fn read(path: &Path) -> Json {
    stage::read_json(path).unwrap()
}

fn digits(name: &str) -> PathBuf {
    Path::new(DIGITS).join(name)
}

/// ADM's unmodified evaluator on the same two files and the same weights. TensorFlow's features are 1e-4 away from torch's.
#[test]
fn adms_own_run_is_reproduced() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let weights: BTreeMap<String, tch::Tensor> = recipe::inception_weights().into_tensors();
    models::weights::write(
        &at("inception.safetensors"),
        weights.iter().map(|(n, t)| (n.clone(), t)),
        &BTreeMap::new(),
    )
    .unwrap();
    let (samples, reference) = (golden("e2e_sample.npz"), golden("e2e_ref.npz"));
    done(&[
        ("samples", &samples),
        ("reference", &reference),
        ("inception", &at("inception.safetensors")),
        ("scores", &at("direct.json")),
        ("statistics", &at("statistics.npz")),
    ]);
    let adm = json("e2e.json");
    let direct = read(&at("direct.json"));
    for (ours, theirs, allowed) in
        [("fid", "fid", 1e-4), ("sfid", "sfid", 1e-5), ("inception_score", "inception_score", 1e-5)]
    {
        let (ours, theirs) = (direct[ours].as_f64().unwrap(), adm[theirs].as_f64().unwrap());
        assert!((ours - theirs).abs() <= allowed * theirs, "{ours} and {theirs}");
    }
    // Borderline points flip with features that are 1e-4 away.
    let count = |side: &str| direct[side]["images"].as_f64().unwrap();
    for (name, images) in [("precision", count("samples")), ("recall", count("reference"))] {
        let (ours, theirs) = (direct[name].as_f64().unwrap(), adm[name].as_f64().unwrap());
        assert!((ours - theirs).abs() * images <= 2.5, "{name}: {ours} and {theirs}");
    }

    // The kept statistics give the same scores.
    done(&[
        ("samples", &samples),
        ("reference", &at("statistics.npz")),
        ("inception", &at("inception.safetensors")),
        ("scores", &at("kept.json")),
    ]);
    let kept = read(&at("kept.json"));
    for name in ["fid", "sfid", "inception_score", "precision", "recall"] {
        let (a, b) = (direct[name].as_f64().unwrap(), kept[name].as_f64().unwrap());
        assert!((a - b).abs() <= 1e-9 * a.abs(), "{name}: {a} and {b}");
    }
    assert_eq!(direct["inception"]["sha256"], kept["reference"]["inception"]);

    // Statistics of other weights are refused, and say whose they are.
    let error = refused(&[
        ("samples", &samples),
        ("reference", &at("statistics.npz")),
        ("inception", &digits("inception.safetensors")),
        ("scores", &at("refused.json")),
    ]);
    assert!(error.contains("statistics.npz") && error.contains("other weights"), "{error}");
    assert!(!at("refused.json").exists());
}

#[test]
fn the_digits_score_the_same_in_any_batch_and_on_any_threads() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let score = |name: &str, batch: &str, threads: &str| {
        done(&[
            ("samples", &golden("e2e_sample.npz")),
            ("reference", &golden("e2e_ref.npz")),
            ("inception", &digits("inception.safetensors")),
            ("batch-size", Path::new(batch)),
            ("more", Path::new("true")),
            ("threads", Path::new(threads)),
            ("scores", &at(name)),
        ]);
        read(&at(name))
    };
    let a = score("a.json", "64", "2");
    for (name, batch, threads) in [("b.json", "7", "2"), ("c.json", "64", "1")] {
        let b = score(name, batch, threads);
        for key in ["fid", "sfid", "inception_score", "precision", "recall", "kid", "density", "coverage"] {
            let (a, b) = (a[key].as_f64().unwrap(), b[key].as_f64().unwrap());
            assert!((a - b).abs() <= 1e-6 * a.abs(), "{key}: {a} and {b}");
        }
    }
}

#[test]
fn pictures_in_a_folder_score_as_in_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("png")).unwrap();
    let mut npz = evaluate::npz::Npz::open(&golden("e2e_sample.npz")).unwrap();
    let (mut array, [count, height, width]) = evaluate::npz::pictures(&mut npz).unwrap();
    for i in 0..count {
        let bytes = array.read(height * width * 3).unwrap();
        let picture = image::RgbImage::from_raw(width as u32, height as u32, bytes).unwrap();
        picture.save(at("png").join(format!("{i:06}.png"))).unwrap();
    }
    let score = |samples: &Path, name: &str| {
        done(&[
            ("samples", samples),
            ("reference", &golden("e2e_ref.npz")),
            ("inception", &digits("inception.safetensors")),
            ("distances", Path::new("exact")),
            ("scores", &at(name)),
        ]);
        read(&at(name))
    };
    assert_eq!(score(&golden("e2e_sample.npz"), "archive.json"), score(&at("png"), "folder.json"));

    std::fs::write(at("png").join("000003.png"), b"no picture").unwrap();
    let error = refused(&[
        ("samples", &at("png")),
        ("reference", &golden("e2e_ref.npz")),
        ("inception", &digits("inception.safetensors")),
        ("scores", &at("refused.json")),
    ]);
    assert!(error.contains("000003.png"), "{error}");
    assert!(!at("refused.json").exists());
}

#[test]
fn mistakes_are_one_line_that_names_the_thing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (reference, inception) = (golden("e2e_ref.npz"), digits("inception.safetensors"));
    let nothing = refused(&[("reference", &reference), ("inception", &inception)]);
    assert!(nothing.contains("--samples") && nothing.contains("--statistics"), "{nothing}");
    let absent =
        refused(&[("reference", &at("absent.npz")), ("inception", &inception), ("statistics", &at("s"))]);
    assert!(absent.contains("absent.npz"), "{absent}");
    let weights = refused(&[
        ("reference", &reference),
        ("inception", &golden("metrics_features.safetensors")),
        ("statistics", &at("s")),
    ]);
    assert!(
        weights.contains("metrics_features.safetensors") && weights.contains("Conv2d_1a_3x3"),
        "{weights}"
    );
    std::fs::create_dir(at("empty")).unwrap();
    let empty = refused(&[("reference", &at("empty")), ("inception", &inception), ("statistics", &at("s"))]);
    assert!(empty.contains("empty: no pictures"), "{empty}");
    assert!(!at("s").exists());
}

#[test]
fn a_tensorflow_graph_becomes_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let graph = golden("graphdef_full_skeleton_splat.pb");
    done(&[("inception", &graph), ("convert", &at("converted.safetensors"))]);
    let converted = models::Weights::read(&at("converted.safetensors")).unwrap();
    let wanted = models::inception::graph_def::Graph::read(&graph).unwrap().weights().unwrap();
    assert_eq!(converted.names().collect::<Vec<_>>(), wanted.names().collect::<Vec<_>>());
    for name in wanted.names() {
        assert_eq!(recipe::get(&converted, name), recipe::get(&wanted, name), "{name}");
    }
    let part = golden("graphdef_stem_tensor_content.pb");
    let error = refused(&[("inception", &part), ("convert", &at("part.safetensors"))]);
    assert!(error.contains("graphdef_stem") && error.contains("no node"), "{error}");
    assert!(!at("part.safetensors").exists());
}

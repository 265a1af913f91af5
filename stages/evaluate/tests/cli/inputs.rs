//! What may be given, and what is refused.

use crate::recipe::golden;
use crate::support::{digits, done, read, refused, samples, write_part};
use std::path::Path;

#[test]
fn pictures_in_a_folder_score_as_in_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("png")).unwrap();
    let mut npz = npz::Npz::open(&golden("e2e_sample.npz")).unwrap();
    let (mut array, [count, height, width]) = npz::pictures(&mut npz).unwrap();
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
    let (mut archive, of_folder) =
        (score(&golden("e2e_sample.npz"), "archive.json"), score(&at("png"), "folder.json"));
    // Only one file has a digest.
    let digest = archive["samples"]["sha256"].take();
    assert_eq!((digest.as_str().map(str::len), &archive), (Some(64), &of_folder));

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
    let converted = weights::Weights::read(&at("converted.safetensors")).unwrap();
    let wanted = extractors::inception::graph_def::Graph::read(&graph).unwrap().weights().unwrap();
    assert_eq!(converted.names().collect::<Vec<_>>(), wanted.names().collect::<Vec<_>>());
    for name in wanted.names() {
        assert_eq!(crate::recipe::get(&converted, name), crate::recipe::get(&wanted, name), "{name}");
    }
    let part = golden("graphdef_stem_tensor_content.pb");
    let error = refused(&[("inception", &part), ("convert", &at("part.safetensors"))]);
    assert!(error.contains("graphdef_stem") && error.contains("no node"), "{error}");
    assert!(!at("part.safetensors").exists());
}

/// Statistics of other programs are of FID's features alone.
#[test]
fn mu_and_sigma_give_fid_alone_and_say_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let all: Vec<usize> = (0..samples()).collect();
    write_part(&at("ours.npz"), &all[..all.len() / 2]);
    write_part(&at("theirs.npz"), &all[all.len() / 2..]);
    let inception = digits("inception.safetensors");
    let score = |reference: &Path, output: &str| {
        let (samples, output) = (at("ours.npz"), at(output));
        done(&[
            ("samples", &samples),
            ("reference", reference),
            ("inception", &inception),
            ("scores", &output),
        ]);
        read(&output)
    };
    let (theirs, statistics) = (at("theirs.npz"), at("statistics.npz"));
    done(&[("reference", &theirs), ("inception", &inception), ("statistics", &statistics)]);
    let whole = score(&theirs, "whole.json");
    let mut kept = npz::Npz::open(&statistics).unwrap();
    let mut writer = npz::Writer::create(&at("fid.npz")).unwrap();
    for name in ["mu", "sigma"] {
        let npz::Numbers { shape, values } = kept.numbers(name).unwrap();
        writer.start(name, "<f8", &shape).unwrap();
        writer.values(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    }
    writer.finish().unwrap();
    let alone = score(&at("fid.npz"), "alone.json");
    let [a, b] = [&whole, &alone].map(|scores| scores["fid"].as_f64().unwrap());
    assert!((a - b).abs() <= 1e-9 * a, "{a} and {b}");
    assert_eq!(alone["inception_score"], whole["inception_score"]);
    for missing in ["sfid", "precision", "recall"] {
        assert!(whole[missing].is_number() && alone[missing].is_null(), "{missing}");
    }
    let warnings = alone["warnings"].to_string();
    for word in [
        "sFID: the reference holds mu and sigma, but neither mu_s and sigma_s nor all pictures",
        "precision and recall",
    ] {
        assert!(warnings.contains(word), "{warnings}");
    }
}

#[test]
fn what_cannot_be_is_found_before_there_are_samples() {
    let check = |flags: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_evaluate"));
        let output = command.arg("--check").args(flags).output().unwrap();
        (output.status.code(), [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()))
    };
    let (code, [force, said]) = check(&["--more", "true"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(force.contains(r#""more":"true""#) && force.contains(r#""distances":"adm""#), "{force}");
    for (flags, why) in [
        (["--device", "gpu"], "--device: `gpu` is none of auto, cpu, cuda:N; did you mean `cuda:0`?"),
        (["--distances", "adn"], "--distances: `adn` is none of"),
        (["--inceptoin", "x"], "did you mean --inception?"),
    ] {
        let (code, [_, said]) = check(&flags);
        assert!(code == Some(2) && said.contains(why) && said.lines().count() == 1, "{said}");
    }
    let (code, [_, said]) = check(&["--device", "cuda:99"]);
    assert!(code == Some(0) && said.starts_with("warning: --device cuda:99: "), "{said}");
}

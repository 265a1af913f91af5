//! Scores: ADM's own run, whatever the device, the batch, the shards and the order, and those of classes and of DINOv2.

use crate::recipe::{golden, json};
use crate::support::{command, digits, done, read, refused, samples, write_part};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;

/// ADM's unmodified evaluator on the same two files and the same weights. TensorFlow's features are 1e-4 away from torch's.
#[test]
fn adms_own_run_is_reproduced() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let weights: BTreeMap<String, tch::Tensor> = crate::recipe::inception_weights().into_tensors().unwrap();
    weights::write(
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
        ("features", &at("features.parquet")),
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

    // The kept statistics and features give the same scores.
    done(&[
        ("samples", &at("features.parquet")),
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
        ("samples", &at("features.parquet")),
        ("reference", &at("statistics.npz")),
        ("inception", &digits("inception.safetensors")),
        ("scores", &at("refused.json")),
    ]);
    assert!(error.contains("statistics.npz") && error.contains("other weights"), "{error}");
    assert!(!at("refused.json").exists());
}

/// As the double of a GPU shows it.
#[test]
fn a_gpu_scores_as_the_cpu_scores() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (samples, reference) = (golden("e2e_sample.npz"), golden("e2e_ref.npz"));
    let (inception, statistics) = (digits("inception.safetensors"), at("statistics.npz"));
    let more = Path::new("true");
    done(&[("reference", &reference), ("inception", &inception), ("statistics", &statistics)]);
    for (arithmetic, exact) in [("adm", false), ("exact", true)] {
        let scores = ["cpu", "cuda:0"].map(|device| {
            let path = at(&format!("{arithmetic}-{device}.json"));
            let mut command = command(&[
                ("samples", &samples),
                ("reference", &statistics),
                ("inception", &inception),
                ("distances", Path::new(arithmetic)),
                ("more", more),
                ("device", Path::new(device)),
                ("scores", &path),
            ]);
            let gpu = (device != "cpu").then(|| cuda_double::lend(&mut command, 1, &at("report")));
            if gpu.as_ref().is_some_and(Option::is_none) {
                return None;
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some((read(&path), gpu.flatten().map(|gpu| gpu.report())))
        });
        let [Some((cpu, _)), Some((gpu, Some(report)))] = scores else { return };
        // A tile of products is waited for by itself.
        assert!(report["wait event"] > 4, "{report:?}");
        let flat = |json: &Json, name: &str| json.get(name).or(json["more"].get(name)).and_then(Json::as_f64);
        for name in NUMBERS {
            let (Some(ours), Some(theirs)) = (flat(&gpu, name), flat(&cpu, name)) else {
                assert_eq!(flat(&gpu, name), flat(&cpu, name), "{name}");
                continue;
            };
            let allowed = if exact { 1e-4 } else { 1e-2 };
            assert!((ours - theirs).abs() <= allowed * theirs.abs().max(1e-3), "{name}: {ours} and {theirs}");
        }
    }
}

const NUMBERS: [&str; 12] = [
    "fid",
    "sfid",
    "inception_score",
    "precision",
    "recall",
    "kid",
    "density",
    "coverage",
    "fid_infinity",
    "fid_infinity_error",
    "fid_classes",
    "fid_10k",
];

fn same_scores(what: &str, a: &Json, b: &Json, but: &[&str]) {
    for key in NUMBERS.iter().filter(|key| !but.contains(key)) {
        let (a, b) = (a[key].as_f64(), b[key].as_f64());
        match (a, b) {
            (Some(a), Some(b)) => assert!((a - b).abs() <= 1e-6 * a.abs(), "{what}: {key}: {a} and {b}"),
            _ => assert_eq!((a, b), (None, None), "{what}: {key}"),
        }
    }
}

#[test]
fn scores_are_the_same_in_any_batch_on_any_threads_in_shards_and_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let count = samples();
    let all: Vec<usize> = (0..count).collect();
    write_part(&at("all.npz"), &all);
    write_part(&at("reversed.npz"), &all.iter().rev().copied().collect::<Vec<_>>());
    write_part(&at("first.npz"), &all[..count / 3]);
    write_part(&at("rest.npz"), &all[count / 3..]);
    std::fs::create_dir(at("shards")).unwrap();
    let (inception, reference) = (digits("inception.safetensors"), at("reference.parquet"));
    let keep = |pictures: &Path, output: &str| {
        done(&[("reference", pictures), ("inception", &inception), ("features", &at(output))]);
    };
    keep(&golden("e2e_ref.npz"), "reference.parquet");
    keep(&at("first.npz"), "shards/0.parquet");
    keep(&at("rest.npz"), "shards/1.parquet");
    let score = |samples: &str, batch: &str, threads: &str| {
        let output = at(&format!("{samples}-{batch}-{threads}.json"));
        std::fs::create_dir_all(output.parent().unwrap()).unwrap();
        done(&[
            ("samples", &at(samples)),
            ("reference", &reference),
            ("inception", &inception),
            ("batch-size", Path::new(batch)),
            ("more", Path::new("true")),
            ("threads", Path::new(threads)),
            ("scores", &output),
        ]);
        read(&output)
    };
    let plain = score("all.npz", "64", "2");
    for key in NUMBERS.iter().filter(|key| **key != "fid_10k" && **key != "fid_classes") {
        assert!(plain[key].is_f64(), "{key} is missing in {plain}");
    }
    same_scores("batch", &plain, &score("all.npz", "7", "2"), &[]);
    same_scores("threads", &plain, &score("all.npz", "64", "1"), &[]);
    same_scores("shards", &plain, &score("shards", "64", "2"), &[]);
    // KID and FID∞ draw rows by number.
    let drawn = ["kid", "fid_infinity", "fid_infinity_error"];
    same_scores("order", &plain, &score("reversed.npz", "64", "2"), &drawn);

    let weights = digits("vae.safetensors");
    let error = refused(&[
        ("samples", &at("shards")),
        ("reference", &reference),
        ("inception", &weights),
        ("scores", &at("refused.json")),
    ]);
    assert!(error.contains("vae.safetensors"), "{error}");
    std::fs::write(at("shards/2.parquet"), b"PAR1 and no more").unwrap();
    let error = refused(&[
        ("samples", &at("shards")),
        ("reference", &reference),
        ("inception", &inception),
        ("scores", &at("refused.json")),
    ]);
    assert!(error.contains("2.parquet") && !at("refused.json").exists(), "{error}");
}

/// Two classes are told apart, and a set against itself has no distance, by either network.
#[test]
fn classes_and_dinov2_have_their_own_distances() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let all: Vec<usize> = (0..samples()).collect();
    write_part(&at("all.npz"), &all);
    write_part(&at("half.npz"), &all[..all.len() / 2]);
    let weights = tiny_transformer();
    let weights = weights.iter().map(|(name, tensor)| (name.clone(), tensor));
    weights::write(&at("vit.safetensors"), weights, &BTreeMap::new()).unwrap();
    let (inception, vit) = (digits("inception.safetensors"), at("vit.safetensors"));
    let score = |samples: &str, reference: &str| {
        done(&[
            ("samples", &at(samples)),
            ("reference", &at(reference)),
            ("inception", &inception),
            ("dinov2", &vit),
            ("more", Path::new("true")),
            ("scores", &at("scores.json")),
        ]);
        read(&at("scores.json"))
    };
    let same = score("all.npz", "all.npz");
    let zero = |value: &Json| value.as_f64().unwrap().abs() <= 1e-6;
    assert!(zero(&same["fid"]) && zero(&same["fd_dinov2"]) && zero(&same["fid_classes"]), "{same}");
    let classes = same["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 2);
    let counted: u64 = classes.iter().map(|c| c["samples"].as_u64().unwrap()).sum();
    assert_eq!(counted as usize, all.len());
    assert_eq!(same["dinov2"]["sha256"], same["reference"]["dinov2"]);

    // Statistics keep what is needed for both.
    done(&[
        ("reference", &at("all.npz")),
        ("inception", &inception),
        ("dinov2", &vit),
        ("statistics", &at("statistics.npz")),
    ]);
    let (direct, kept) = (score("half.npz", "all.npz"), score("half.npz", "statistics.npz"));
    assert!(direct["fd_dinov2"].as_f64().unwrap() > 1e-3, "{direct}");
    let near = |key: &str| (direct[key].as_f64().unwrap(), kept[key].as_f64().unwrap());
    for (a, b) in [near("fd_dinov2"), near("fid_classes"), near("fid")] {
        assert!((a - b).abs() <= 1e-8 * a.abs(), "{a} and {b}");
    }
}

/// A vision transformer of one block under DINOv2's names.
fn tiny_transformer() -> BTreeMap<String, tch::Tensor> {
    let shapes: [(&str, &[i64]); 21] = [
        ("cls_token", &[1, 1, 64]),
        ("pos_embed", &[1, 5, 64]),
        ("mask_token", &[1, 64]),
        ("patch_embed.proj.weight", &[64, 3, 14, 14]),
        ("patch_embed.proj.bias", &[64]),
        ("blocks.0.norm1.weight", &[64]),
        ("blocks.0.norm1.bias", &[64]),
        ("blocks.0.attn.qkv.weight", &[192, 64]),
        ("blocks.0.attn.qkv.bias", &[192]),
        ("blocks.0.attn.proj.weight", &[64, 64]),
        ("blocks.0.attn.proj.bias", &[64]),
        ("blocks.0.ls1.gamma", &[64]),
        ("blocks.0.norm2.weight", &[64]),
        ("blocks.0.norm2.bias", &[64]),
        ("blocks.0.mlp.fc1.weight", &[128, 64]),
        ("blocks.0.mlp.fc1.bias", &[128]),
        ("blocks.0.mlp.fc2.weight", &[64, 128]),
        ("blocks.0.mlp.fc2.bias", &[64]),
        ("blocks.0.ls2.gamma", &[64]),
        ("norm.weight", &[64]),
        ("norm.bias", &[64]),
    ];
    let tensor = |name: &str, shape: &[i64]| {
        let stream = crate::recipe::Stream::new(3, name);
        let values: Vec<f32> = (0..shape.iter().product::<i64>() as usize).map(|j| stream.v(j)).collect();
        tch::Tensor::from_slice(&values).reshape(shape)
    };
    shapes.iter().map(|(name, shape)| (name.to_string(), tensor(name, shape))).collect()
}

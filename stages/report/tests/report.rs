//! The program, on inputs like those that the other stages write.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use models::Network;
use models::checkpoint::{CheckpointMetadata, Content, LatentSpace, file_name};
use models::config::{Architecture, Config};
use models::diffusion::NoiseSchedule;
use serde_json::{Value as Json, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tch::{Device, Tensor};
use torch::random;

fn run(arguments: &[(&str, &Path)], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_report"));
    for (name, path) in arguments {
        command.arg(format!("--{name}")).arg(path);
    }
    command.args(more).output().unwrap()
}

fn refused(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    for word in words {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
}

/// `arr_0` and `arr_1` as `sample` writes them.
fn samples(folder: &Path, labels: &[i64], side: usize) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let mut npz = npz::Writer::create(&folder.join("samples.npz")).unwrap();
    // Every class has a colour of its own.
    let pixel =
        |i: usize| (0..side * side).flat_map(move |p| [(labels[i] * 25) as u8, (i * 3) as u8, p as u8]);
    npz.start("arr_0", "|u1", &[labels.len(), side, side, 3]).unwrap();
    npz.values(&(0..labels.len()).flat_map(pixel).collect::<Vec<u8>>()).unwrap();
    npz.integers("arr_1", labels).unwrap();
    npz.finish().unwrap();
    folder.into()
}

fn log(path: &Path, steps: usize) -> PathBuf {
    let noise = random::uniform(7, "log", 0, &[steps as i64, 3]);
    let line = |i: usize| {
        let r = |j: i64| noise.double_value(&[i as i64, j]);
        let t = (i + 1) as f64 / steps as f64;
        let vb = if r(0) > 0.97 { 3.0 } else { 0.02 + 0.02 * r(1) };
        let mse = 0.14 + 0.9 * (-6.0 * t).exp() + 0.03 * r(2);
        json!({"step": (i + 1) * 20, "mse": mse, "vb": vb, "prior": 0.128 * (-2.0 * t).exp() + 0.004 * r(1),
               "loss": mse + vb, "learning_rate": 0.0005, "images_per_second": 900.0 + 50.0 * r(2)})
    };
    fs::write(path, (0..steps).map(|i| format!("{}\n", line(i))).collect::<String>()).unwrap();
    path.into()
}

/// A checkpoint of a network whose gates know the timestep.
fn checkpoints(folder: &Path, architecture: Architecture) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let config = Config { architecture, ..Config::preset("switch-dit-digits/2", 8, 10).unwrap() };
    let network = Network::fresh(&config, 1, Device::Cpu).unwrap();
    let mut content = Content::default();
    let tensors = || {
        network.parameters().iter().map(|p| {
            let strong = p.name.starts_with("t_embedder") || p.name.contains("f_gate");
            let values = if strong { &p.tensor * 4.0 } else { p.tensor.shallow_clone() };
            (p.name.clone(), values.detach())
        })
    };
    content.add("model.", tensors());
    content.add("ema.0.9999.", tensors().chain(network.buffers()).collect::<Vec<(String, Tensor)>>());
    let latents = LatentSpace::scaled(0.18215, "00".repeat(32));
    let about = CheckpointMetadata::new(2000, config, NoiseSchedule::Cosine, vec![0.9999], latents);
    content.write(&folder.join(file_name(2000)), &about).unwrap();
    folder.into()
}

fn scores() -> Json {
    json!({
        "fid": 12.34567, "sfid": 20.5, "inception_score": 8.125, "precision": 0.71, "recall": 0.655,
        "samples": {"images": 1000, "size": [32, 32]},
        "reference": {"images": 1797, "precision_recall_images": 1797, "size": [32, 32],
                      "inception": "ab".repeat(32), "resize": "adm", "sha256": null},
        "inception": {"sha256": "ab".repeat(32), "width": 256, "classes": 10},
        "resize": "adm", "distances": "adm", "neighbours": 3, "split_size": 5000,
        "warnings": ["fewer images than features make FID rise"]
    })
}

fn lineage() -> Json {
    let d = |x: &str| x.repeat(32);
    json!({"stages": [
        {"stage": "download", "program": "download", "program_digest": d("0d"), "params": {},
         "inputs": {"repository": d("01")}, "outputs": {"images": d("02")}},
        {"stage": "encode", "program": "encode", "program_digest": d("0e"),
         "params": {"image-size": "32", "flip": "false"},
         "inputs": {"images": d("02"), "vae": d("03")}, "outputs": {"latents": d("04")}},
        {"stage": "train", "program": "train", "program_digest": d("0f"),
         "params": {"model": "switch-dit-digits/2", "iterations": "2000", "learning-rate": "0.0005"},
         "inputs": {"latents": d("04")}, "outputs": {"checkpoints": d("05"), "log": d("06")}},
        {"stage": "sample", "program": "sample", "program_digest": d("10"), "params": {"images": "40"},
         "inputs": {"checkpoints": d("07")}, "outputs": {"samples": d("09")}},
        {"stage": "sample", "program": "sample", "program_digest": d("10"), "params": {"images": "40"},
         "inputs": {"checkpoints": d("08")}, "outputs": {"samples": d("09")}}
    ]})
}

fn everything(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let write = |name: &str, json: Json| {
        let path = folder.join(name);
        fs::write(&path, json.to_string()).unwrap();
        path
    };
    let labels: Vec<i64> = (0..120).map(|i| i * 7 % 10).collect();
    vec![
        ("scores", write("scores.json", scores())),
        ("log", log(&folder.join("log.jsonl"), 400)),
        ("samples", samples(&folder.join("samples"), &labels, 32)),
        ("checkpoints", checkpoints(&folder.join("checkpoints"), Architecture::SwitchDit)),
        ("lineage", write("lineage.json", lineage())),
    ]
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.push((name, fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn everything_is_in_it_and_the_bytes_are_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = everything(dir.path());
    let mut arguments: Vec<(&str, &Path)> = inputs.iter().map(|(n, p)| (*n, p.as_path())).collect();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    arguments.push(("report", &first));
    let output = run(&arguments, &["--title", "Switch-DiT <on> digits"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    *arguments.last_mut().unwrap() = ("report", &second);
    assert!(run(&arguments, &["--title", "Switch-DiT <on> digits"]).status.success());
    let (first, second) = (files(&first), files(&second));
    let names: Vec<&str> = first.iter().map(|f| f.0.as_str()).collect();
    for name in [
        "report.md",
        "report.html",
        "gating.parquet",
        "paths.parquet",
        "affinity.parquet",
        "figures/samples.png",
        "figures/samples.svg",
        "figures/losses.svg",
        "figures/gating.svg",
        "figures/gating-learned.png",
        "figures/gating-prior.png",
        "figures/gate-probabilities.png",
        "figures/paths.svg",
        "figures/paths.png",
        "figures/affinity.png",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    for (a, b) in first.iter().zip(&second) {
        assert!(a == b, "{} differs", a.0);
    }
    let text = |name: &str| String::from_utf8(first.iter().find(|f| f.0 == name).unwrap().1.clone()).unwrap();
    let html = text("report.html");
    for part in [
        "Switch-DiT &lt;on&gt; digits",
        "12.346",
        "0.0005",
        &"04".repeat(32),
        "encode.latents",
        "prefers-color-scheme",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // Nothing from outside, nothing that runs.
    for part in ["<script", "src=\"http", "href=\"http", "url(", "@import"] {
        assert!(!html.contains(part), "{part}");
    }
    let markdown = text("report.md");
    for part in
        ["figures/samples.svg", "figures/losses.svg", "| FID | 12.346 | lower |", "--learning-rate 0.0005"]
    {
        assert!(markdown.contains(part), "{part} is not in\n{markdown}");
    }
    // A stage that ran for each of two checkpoints: two origins, one set of parameters, one command.
    assert_eq!((markdown.matches("`images` | 40").count(), markdown.matches("--images 40").count()), (1, 1));
    assert_eq!(markdown.matches("reads `checkpoints`").count(), 2);
    // Kept for a look when asked.
    if let Some(folder) = std::env::var_os("REPORT_KEEP") {
        for (name, bytes) in &first {
            let path = Path::new(&folder).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

#[test]
fn each_input_may_come_alone() {
    let dir = tempfile::tempdir().unwrap();
    for (name, path) in everything(dir.path()) {
        let out = dir.path().join(format!("only-{name}"));
        let output = run(&[(name, &path), ("report", &out)], &[]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(out.join("report.md").exists() && out.join("report.html").exists());
    }
}

/// A folder as the runner leaves it after all variants of a study.
fn runs(folder: &Path) -> PathBuf {
    for (i, name) in ["dit-s", "dit-b", "switch-dit-s", "another"].into_iter().enumerate() {
        let (evaluate, train) = (folder.join(name).join("evaluate"), folder.join(name).join("train"));
        fs::create_dir_all(&train).unwrap();
        log(&train.join("log"), 50 + i);
        let mut scores = scores();
        if name == "switch-dit-s" {
            // Every checkpoint was scored.
            fs::create_dir_all(evaluate.join("scores")).unwrap();
            for step in [1000, 2000] {
                scores["fid"] = json!(40_000.0 / f64::from(step));
                fs::write(evaluate.join(format!("scores/step-{step:08}.json")), scores.to_string()).unwrap();
            }
        } else {
            fs::create_dir_all(&evaluate).unwrap();
            scores["fid"] = json!(30.0 + i as f64);
            fs::write(evaluate.join("scores"), scores.to_string()).unwrap();
        }
    }
    fs::create_dir_all(folder.join("download")).unwrap();
    folder.into()
}

#[test]
fn runs_are_compared_with_what_was_published() {
    let dir = tempfile::tempdir().unwrap();
    let runs = runs(&dir.path().join("runs"));
    let published = dir.path().join("published.json");
    let row = |variant: &str, name: &str, gmacs: f64, fid: Json| {
        json!({"variant": variant, "name": name,
        "line": name.rsplit_once('-').unwrap().0, "published": {"gmacs": gmacs, "fid": fid}})
    };
    let rows = [
        row("dit-s", "DiT-S", 6.06, json!(44.28)),
        row("dit-b", "DiT-B", 23.01, json!(27.96)),
        row("switch-dit-s", "Switch-DiT-S", 6.74, json!(33.99)),
        row("dtr-s", "DTR-S", 6.06, Json::Null),
    ];
    fs::write(&published, json!({"title": "Table 2", "source": "a page", "rows": rows}).to_string()).unwrap();
    let out = dir.path().join("report");
    let output =
        run(&[("runs", &runs), ("published", &published), ("report", &out)], &["--title", "Table 2"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(out.join("report.md")).unwrap();
    for line in [
        "| DiT-S | 6.06 | 30 | 44.28 |",
        "| Switch-DiT-S | 6.74 | 20 | 33.99 |",
        "| DTR-S | 6.06 | not run | not published |",
        "| `another` | not published | 33 | not published |",
        "figures/cost.svg",
        "figures/convergence.svg",
        "figures/training.svg",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let alone = dir.path().join("alone");
    assert!(run(&[("runs", &runs), ("report", &alone)], &[]).status.success());
    let scores = runs.join("switch-dit-s/evaluate/scores");
    let curve = dir.path().join("curve");
    assert!(run(&[("scores", &scores), ("report", &curve)], &[]).status.success());
    assert!(curve.join("figures/convergence.svg").exists());

    let none = dir.path().join("none");
    refused(&run(&[("published", &published), ("report", &none)], &["--log", "x"]), &[]);
    refused(
        &run(&[("runs", &dir.path().join("report")), ("report", &none)], &[]),
        &["no VARIANT/evaluate/scores"],
    );
    fs::write(&published, "{\"title\": \"x\", \"sources\": 1}").unwrap();
    refused(&run(&[("runs", &runs), ("published", &published), ("report", &none)], &[]), &["published.json"]);
    assert!(!none.exists());
}

#[test]
fn a_checkpoint_of_torch_says_what_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/models/tests/reference/reference.pt");
    let report = dir.path().join("report");
    let arguments = [("checkpoints", Path::new(reference)), ("report", &report)];
    refused(&run(&arguments, &["--heads", "2"]), &["noise schedule", "--schedule"]);
    let output = run(&arguments, &["--heads", "2", "--schedule", "linear"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let decoded = image::open(report.join("figures/paths.png")).unwrap().into_rgba8();
    // Two of three experts are kept at each of four timesteps, by dots of one size; none at all of them.
    let dots = |colour: [u8; 3]| decoded.pixels().filter(|p| p.0[..3] == colour && p.0[3] == 255).count();
    let (kept, shared, off) = (dots([0x1f, 0x6f, 0xd0]), dots([0xb4, 0x61, 0x0a]), dots([0xdc, 0xdf, 0xe3]));
    assert!(off > 100 && kept + shared == 2 * off, "{kept} + {shared} and {off} pixels");
}

#[test]
fn a_network_without_gates_is_reported_without_a_map() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(&dir.path().join("checkpoints"), Architecture::Dit);
    let out = dir.path().join("report");
    assert!(run(&[("checkpoints", &checkpoints), ("report", &out)], &[]).status.success());
    let text = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(text.contains("## Network") && !text.contains("## Gating"), "{text}");
}

#[test]
fn samples_without_classes_fill_the_grid() {
    let dir = tempfile::tempdir().unwrap();
    let samples = samples(&dir.path().join("samples"), &[0; 25], 200);
    let out = dir.path().join("report");
    assert!(run(&[("samples", &samples), ("report", &out)], &["--per-class", "5"]).status.success());
    let png = image::open(out.join("figures/samples.png")).unwrap();
    assert_eq!((png.width(), png.height()), (5 * 98 - 2, 5 * 98 - 2));
}

#[test]
fn bad_inputs_are_one_line_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("report");
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let with = |name: &str, path: &Path| run(&[(name, path), ("report", &out)], &[]);
    refused(&run(&[("report", &out)], &[]), &["nothing to report", "--scores"]);
    refused(&with("scores", &dir.path().join("none.json")), &["none.json", "no such file"]);
    refused(&with("scores", &put("a.json", b"{\"fid\": ")), &["a.json"]);
    refused(&with("scores", &put("b.json", b"[1]")), &["b.json", "object"]);
    refused(&with("log", &put("c.jsonl", b"{\"step\": 1}\n{\"step\": \n")), &["c.jsonl", "line 2"]);
    refused(&with("lineage", &put("d.json", b"{\"stages\": [{}]}")), &["d.json", "stages"]);
    refused(&with("samples", &put("e.npz", b"no zip")), &["e.npz"]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    refused(&with("samples", &dir.path().join("empty")), &["samples.npz"]);
    refused(&with("checkpoints", &dir.path().join("empty")), &["no checkpoint"]);
    let good = checkpoints(&dir.path().join("cut"), Architecture::SwitchDit).join(file_name(2000));
    let bytes = fs::read(&good).unwrap();
    fs::write(&good, &bytes[..bytes.len() / 2]).unwrap();
    refused(&with("checkpoints", &good), &["step-00002000.safetensors"]);
    let npz = samples(&dir.path().join("short"), &[1, 2, 3], 8).join("samples.npz");
    let bytes = fs::read(&npz).unwrap();
    fs::write(&npz, &bytes[..bytes.len() / 2]).unwrap();
    refused(&with("samples", &npz), &["samples.npz"]);
    assert!(!out.exists());
}

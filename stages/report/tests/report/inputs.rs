//! Inputs like those that the other stages write, and the program on them.

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

/// The day that every report here is written on.
const DAY: &str = "1767225600";

pub fn run(arguments: &[(&str, &Path)], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_report"));
    for (name, path) in arguments {
        command.arg(format!("--{name}")).arg(path);
    }
    command.args(more).env("SOURCE_DATE_EPOCH", DAY).output().unwrap()
}

/// Runs it and says what went wrong, if something did.
pub fn done(arguments: &[(&str, &Path)], more: &[&str]) {
    let output = run(arguments, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub fn refused(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    for word in words {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
}

/// `arr_0` and `arr_1` as `sample` writes them.
pub fn samples(folder: &Path, labels: &[i64], side: usize) -> PathBuf {
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

pub fn log(path: &Path, steps: usize) -> PathBuf {
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
pub fn checkpoints(folder: &Path, architecture: Architecture) -> PathBuf {
    let config = Config { architecture, ..Config::preset("switch-dit-digits/2", 8, 10).unwrap() };
    checkpoint_of(folder, config, NoiseSchedule::Cosine, Json::Null)
}

/// A checkpoint of this network, trained so.
pub fn checkpoint_of(folder: &Path, config: Config, schedule: NoiseSchedule, training: Json) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
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
    let latents = LatentSpace { scale: 0.18215, vae: "00".repeat(32) };
    let mut about = CheckpointMetadata::new(2000, config, schedule, vec![0.9999], latents);
    about.training = training;
    content.write(&folder.join(file_name(2000)), &about).unwrap();
    folder.into()
}

pub fn scores() -> Json {
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

pub fn lineage() -> Json {
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
        {"stage": "sample", "entry": "step-1", "program": "sample", "program_digest": d("10"), "params": {"images": "40"},
         "inputs": {"checkpoints": d("07")}, "outputs": {"samples": d("09")}},
        {"stage": "sample", "entry": "step-2", "program": "sample", "program_digest": d("10"), "params": {"images": "40"},
         "inputs": {"checkpoints": d("08")}, "outputs": {"samples": d("09")}}
    ]})
}

pub fn everything(folder: &Path) -> Vec<(&'static str, PathBuf)> {
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

pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
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

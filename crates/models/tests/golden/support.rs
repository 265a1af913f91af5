//! Where the golden data is, and how two tensors are compared.

use models::config::Architecture;
use models::{Config, Network};
use serde_json::Value as Json;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};
use weights::Weights;

/// The folder `model/` of the golden data.
pub fn folder() -> PathBuf {
    let given = std::env::var_os("GOLDEN_DIR").map(PathBuf::from);
    given.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden").into()).join("model")
}

pub fn json(name: &str) -> Json {
    stage::read_json(&folder().join(format!("{name}.json"))).unwrap()
}

pub fn tensors(name: &str) -> Weights {
    Weights::read(&folder().join(format!("{name}.safetensors"))).unwrap()
}

/// A tensor that must be there.
pub fn get<'a>(weights: &'a Weights, name: &str) -> &'a Tensor {
    weights.get(name).unwrap().unwrap_or_else(|| panic!("{}: no {name}", weights.source()))
}

/// Every variant of the network that was recorded.
pub fn variants() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            Some(name.strip_prefix("model_")?.strip_suffix(".json")?.to_string())
        })
        .collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

pub fn config(meta: &Json) -> Config {
    let c = &meta["config"];
    let whole = |name: &str| c[name].as_i64();
    Config {
        architecture: match meta["kind"].as_str().unwrap().to_lowercase().as_str() {
            "switch" => Architecture::SwitchDit,
            "dtr" => Architecture::Dtr,
            "dit" => Architecture::Dit,
            other => panic!("kind {other}"),
        },
        width: whole("hidden_size").unwrap(),
        blocks: whole("depth").unwrap(),
        heads: whole("num_heads").unwrap(),
        patch: whole("patch_size").unwrap(),
        side: whole("input_size").unwrap(),
        channels: whole("in_channels").unwrap(),
        classes: whole("num_classes").unwrap(),
        label_dropout: c["class_dropout_prob"].as_f64().unwrap(),
        experts: whole("num_experts").unwrap_or(3),
        top_k: whole("k").unwrap_or(2),
        alpha: c["prior_alpha"].as_f64().or(c["alpha"].as_f64()).unwrap_or(4.0),
        beta: c["beta"].as_f64().unwrap_or(0.8),
        ..Config::preset("dit-tiny", whole("input_size").unwrap(), 1).unwrap()
    }
}

/// The recorded network, its gradients wanted.
pub fn network(variant: &str) -> Network {
    let meta = json(&format!("model_{variant}"));
    let weights = tensors(&format!("model_{variant}"));
    Network::load(&config(&meta), weights, true, Device::Cpu).unwrap()
}

fn shapes(what: &str, a: &Tensor, b: &Tensor) {
    assert_eq!(a.size(), b.size(), "{what}: shapes");
    assert!(a.numel() > 0, "{what}: empty");
}

/// The largest absolute difference is at most `tolerance`; NaN fails.
pub fn near(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    shapes(what, ours, theirs);
    let worst = (ours.to_kind(Kind::Double) - theirs.to_kind(Kind::Double)).abs().max().double_value(&[]);
    assert!(worst <= tolerance, "{what}: off by {worst:.3e}, {tolerance:.0e} allowed");
}

/// Sinusoids of timesteps `t`. Processors round a frequency, which is below 1, to one or the other of two neighbours, half of
/// 2^-23 apart at most; the timestep multiplies that (measured: 3.0e-5 at 999 between two processors).
pub fn near_sinusoid(what: &str, ours: &Tensor, theirs: &Tensor, t: &Tensor) {
    for row in 0..t.size()[0] {
        let timestep = t.double_value(&[row]);
        near(
            &format!("{what} of {timestep}"),
            &ours.get(row),
            &theirs.get(row),
            1e-6 + timestep / 2f64.powi(24),
        );
    }
    shapes(what, ours, theirs);
}

/// The difference's norm is at most `tolerance` times the norm; NaN fails.
pub fn near_relative(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    shapes(what, ours, theirs);
    let theirs = theirs.to_kind(Kind::Double);
    let off = (ours.to_kind(Kind::Double) - &theirs).norm().double_value(&[]);
    let norm = theirs.norm().double_value(&[]);
    assert!(off <= tolerance * norm, "{what}: relatively off by {:.3e}, {tolerance:.0e} allowed", off / norm);
}

/// [`near_relative`] for every row of the first dimension.
pub fn near_rows(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    shapes(what, ours, theirs);
    for row in 0..ours.size()[0] {
        near_relative(&format!("{what}, row {row}"), &ours.get(row), &theirs.get(row), tolerance);
    }
}

pub fn close(what: &str, ours: f64, theirs: f64, relative: f64) {
    let off = (ours - theirs).abs();
    assert!(
        off <= relative * theirs.abs(),
        "{what}: {ours} and {theirs}, relatively off by {:.1e}",
        off / theirs.abs()
    );
}

pub fn numbers(json: &Json) -> Vec<f64> {
    json.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

pub fn integers(json: &Json) -> Vec<i64> {
    json.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
}

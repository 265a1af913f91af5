//! The integer recipe by which the evaluation goldens make weights, pictures and features (`scripts/recipe.py` there).

#![allow(dead_code, reason = "each test program that includes this file uses a part of it")]

mod numbers;

pub use numbers::*;

use std::collections::BTreeMap;
use tch::{Kind, Tensor};
use weights::Weights;

pub fn tensors(name: &str) -> Weights {
    Weights::read(&golden(name)).unwrap()
}

/// A tensor that must be there.
pub fn get(weights: &Weights, name: &str) -> Tensor {
    weights.get(name).unwrap().unwrap_or_else(|| panic!("{}: no {name}", weights.source())).shallow_clone()
}

/// One parameter of the network, flat in torch's layout.
pub fn inception_parameter(seed: u64, name: &str, shape: &[i64]) -> Vec<f32> {
    let stream = Stream::new(seed, name);
    let count: i64 = shape.iter().product();
    let bound = |over: f64, under: i64| (over / under as f64).sqrt() as f32;
    let scale: Box<dyn Fn(f32) -> f32> = if name.ends_with(".conv.weight") {
        let bound = bound(6.0, shape[1] * shape[2] * shape[3]);
        Box::new(move |x| x * bound)
    } else if name.ends_with(".bn.weight") {
        Box::new(|x| 1.0 + 0.25 * x)
    } else if name.ends_with(".bn.bias") {
        Box::new(|x| 0.25 * x)
    } else if name == "fc.weight" {
        let bound = bound(3.0 * 64.0, shape[1]);
        Box::new(move |x| x * bound)
    } else {
        assert_eq!(name, "fc.bias");
        Box::new(|x| x)
    };
    (0..count as usize).map(|j| scale(stream.v(j))).collect()
}

/// All weights: the recipe's, and the stored batch statistics.
pub fn inception_weights() -> Weights {
    let seed = seed();
    let mut all: BTreeMap<String, Tensor> = tensors("inception_bn.safetensors").into_tensors().unwrap();
    for entry in json("inception_tf_torch_map.json")["tensors"].as_array().unwrap() {
        let name = entry["torch"].as_str().unwrap();
        let shape: Vec<i64> =
            entry["torch_shape"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect();
        if !name.contains("running_") {
            let values = inception_parameter(seed, name, &shape);
            all.insert(name.to_string(), Tensor::from_slice(&values).reshape(&shape));
        }
    }
    Weights::new("the recipe's weights", all)
}

/// The 2048-wide features of `scripts/bigfeat.py`: `which` is `ref` or `smp`.
pub fn big_features(seed: u64, which: &str, n: usize, d: usize) -> Tensor {
    let (a, b) = if which == "ref" { (0.375, 0.0625) } else { (0.390_625, 0.070_312_5) };
    let loadings = Stream::new(seed, "big/L");
    let loadings: Vec<f64> = (0..8 * d).map(|j| f64::from(loadings.v(j))).collect();
    let own = Stream::new(seed, &format!("big/{which}/v"));
    let shared = Stream::new(seed, &format!("big/{which}/s"));
    let mut values = Vec::with_capacity(n * d);
    for i in 0..n {
        let mut s: Vec<f64> = (0..8).map(|k| f64::from(shared.v(i * 8 + k))).collect();
        if which == "smp" {
            s[7] *= 0.5;
        }
        for j in 0..d {
            let sum: f64 = (0..8).map(|k| s[k] * loadings[k * d + j]).sum();
            values.push((a + b * f64::from(own.v(i * d + j)) + 0.25 * sum).max(0.0) as f32);
        }
    }
    Tensor::from_slice(&values).reshape([n as i64, d as i64])
}

pub fn bytes_of(t: &Tensor) -> Vec<u8> {
    Vec::<u8>::try_from(&t.flatten(0, -1).to_kind(Kind::Uint8)).unwrap()
}

/// The largest absolute difference is at most `tolerance`; NaN fails.
pub fn near(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.size(), theirs.size(), "{what}: shapes");
    let worst = (ours.to_kind(Kind::Double) - theirs.to_kind(Kind::Double)).abs().max().double_value(&[]);
    assert!(worst <= tolerance, "{what}: off by {worst:.3e}, {tolerance:.0e} allowed");
}

//! The vision transformer against plain torch functions; `dinov2/make.py` made the numbers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod recipe;

use extractors::dinov2::DinoV2;
use recipe::Stream;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Tensor};
use weights::Weights;

/// f32 against f64; features are of size 1.
const TOLERANCE: f64 = 2e-5;

fn recorded() -> Json {
    stage::read_json(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dinov2/features.json"))).unwrap()
}

fn number(json: &Json, key: &str) -> i64 {
    json[key].as_i64().unwrap()
}

fn draw(seed: u64, name: &str, shape: &[i64]) -> Tensor {
    let stream = Stream::new(seed, name);
    let values: Vec<f32> = (0..shape.iter().product::<i64>() as usize).map(|j| stream.v(j)).collect();
    Tensor::from_slice(&values).reshape(shape)
}

fn weights(json: &Json, grid: i64) -> BTreeMap<String, Tensor> {
    let (width, hidden) = (number(json, "width"), number(json, "hidden"));
    let mut shapes: Vec<(String, Vec<i64>)> = vec![
        ("cls_token".into(), vec![1, 1, width]),
        ("pos_embed".into(), vec![1, 1 + grid * grid, width]),
        ("mask_token".into(), vec![1, width]),
        ("patch_embed.proj.weight".into(), vec![width, 3, 14, 14]),
        ("patch_embed.proj.bias".into(), vec![width]),
        ("norm.weight".into(), vec![width]),
        ("norm.bias".into(), vec![width]),
    ];
    for i in 0..number(json, "depth") {
        for name in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"] {
            shapes.push((format!("blocks.{i}.{name}"), vec![width]));
        }
        for (name, outputs, inputs) in [
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", hidden, width),
            ("mlp.fc2", width, hidden),
        ] {
            shapes.push((format!("blocks.{i}.{name}.weight"), vec![outputs, inputs]));
            shapes.push((format!("blocks.{i}.{name}.bias"), vec![outputs]));
        }
    }
    let seed = json["seed"].as_u64().unwrap();
    let scaled = |name: &str, shape: &[i64]| {
        let x = draw(seed, name, shape);
        if name.ends_with("bias") {
            x * 0.25
        } else if name.contains("norm") || name.ends_with("gamma") {
            x * 0.25 + 1.0
        } else if name.ends_with("weight") {
            x * 2.0 / (shape[1..].iter().product::<i64>() as f64).sqrt()
        } else {
            x
        }
    };
    shapes.into_iter().map(|(name, shape)| (name.clone(), scaled(&name, &shape))).collect()
}

#[test]
fn class_tokens_are_those_of_plain_torch() {
    let json = recorded();
    let shape = [number(&json, "pictures"), 3, 224, 224];
    let pictures = draw(json["seed"].as_u64().unwrap(), "pictures", &shape);
    for grid in [16, 5] {
        let network = DinoV2::load(Weights::new("tiny", weights(&json, grid)), Device::Cpu).unwrap();
        let ours = network.features(&pictures).unwrap();
        for (i, row) in json[format!("grid_{grid}")].as_array().unwrap().iter().enumerate() {
            let theirs: Vec<f64> = row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            recipe::near(
                &format!("grid {grid}"),
                &ours.get(i as i64),
                &Tensor::from_slice(&theirs),
                TOLERANCE,
            );
        }
    }
}

#[test]
fn what_is_no_such_network_is_refused_by_name() {
    let json = recorded();
    let broken = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut tensors = weights(&json, 5);
        change(&mut tensors);
        let error = DinoV2::load(Weights::new("vit.pth", tensors), Device::Cpu).err().unwrap();
        assert_eq!(stage::exit_code(&error), 2);
        format!("{error:#}")
    };
    let missing = broken(&|t| drop(t.remove("blocks.1.mlp.fc2.bias")));
    assert!(missing.contains("vit.pth: no tensor blocks.1.mlp.fc2.bias"), "{missing}");
    let surplus = broken(&|t| drop(t.insert("register_tokens".into(), Tensor::from_slice(&[0f32]))));
    assert!(surplus.contains("surplus tensors register_tokens"), "{surplus}");
    let odd = broken(&|t| drop(t.insert("pos_embed".into(), draw(1, "x", &[1, 7, 128]))));
    assert!(odd.contains("pos_embed has shape [1, 7, 128]"), "{odd}");
    assert!(broken(&|t| t.clear()).contains("no tensor cls_token"));
}

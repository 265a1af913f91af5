//! The FID network against TensorFlow's and torch's own numbers, on weights made by an integer recipe.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod recipe;

use extractors::inception::Inception;
use extractors::inception::resize::{RawPictures, Resize, bilinear_tf1, prepare};
use recipe::{bytes_of, get, golden, json, near, seed, structured_images};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use tch::{Device, Kind, Tensor};

/// TensorFlow's f32 is up to 1.1e-4 away from torch's, f64 up to 1e-4 from either.
const FEATURES: f64 = 3e-4;
/// Measured 4.1e-5.
const PROBABILITIES: f64 = 1e-4;

fn text(json: &Json) -> &str {
    json.as_str().unwrap()
}

fn network() -> Inception {
    Inception::load(recipe::inception_weights(), Device::Cpu).unwrap()
}

/// The side lengths that were recorded.
fn sides(io: &weights::Weights) -> Vec<usize> {
    io.names().filter_map(|n| n.strip_prefix("img_u8_")?.parse().ok()).collect()
}

fn pictures(io: &weights::Weights, side: usize) -> Tensor {
    let bytes = bytes_of(&get(io, &format!("img_u8_{side}")));
    prepare(&RawPictures { bytes: &bytes, size: [side, side] }, Resize::Adm, 2).unwrap()
}

#[test]
fn the_recipe_is_the_recipe() {
    let checks = json("inception_recipe_checksums.json");
    let first = &checks["primitive_tests"];
    assert_eq!(recipe::fnv1a64("fc.weight").to_string(), text(&first["fnv1a64_fc_weight"]));
    let stream = recipe::Stream::new(seed(), "fc.weight");
    let recorded = text(&first["key"]).to_string();
    let test_seed =
        [seed(), 1].into_iter().find(|s| recipe::Stream::new(*s, "fc.weight").key().to_string() == recorded);
    let stream = test_seed.map_or(stream, |s| recipe::Stream::new(s, "fc.weight"));
    assert_eq!(stream.key().to_string(), recorded);
    for (j, raw) in first["raw64_first4"].as_array().unwrap().iter().enumerate() {
        assert_eq!(stream.raw(j).to_string(), text(raw));
        assert_eq!(f64::from(stream.v(j)), first["v_first4"][j].as_f64().unwrap());
        assert_eq!(f64::from(stream.u(j)), first["u_first4"][j].as_f64().unwrap());
        assert_eq!(u64::from(stream.u8(j)), first["u8_first8"][j].as_u64().unwrap());
    }
    let weights = recipe::inception_weights();
    for (name, check) in checks["params"].as_object().unwrap() {
        let values = Vec::<f32>::try_from(get(&weights, name).flatten(0, -1)).unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert!(digest.starts_with(text(&check["sha256"])), "{name}");
    }
}

#[test]
fn tf1_resize_is_bit_exact() {
    let recorded = recipe::tensors("resize.safetensors");
    for case in json("resize.json")["cases"].as_array().unwrap() {
        let name = text(&case["name"]);
        let size = |key: &str| [0, 1].map(|i| case[key][i].as_u64().unwrap() as usize);
        let (from, to) = (size("in_hw"), size("out_hw"));
        let picture = match recorded.get(&format!("{name}/in_u8_hwc")).unwrap() {
            Some(t) => bytes_of(t),
            None => {
                let side = from[0].max(from[1]);
                let square = structured_images(seed(), name, 1, side);
                (0..from[0]).flat_map(|y| square[y * side * 3..][..from[1] * 3].to_vec()).collect()
            }
        };
        let mut ours = vec![0f32; to[0] * to[1] * 3];
        bilinear_tf1(&picture, from, to, &mut ours);
        let sum: f64 = ours.iter().map(|&x| f64::from(x)).sum();
        let recorded_sum = case["out_sum_f64"].as_f64().unwrap();
        assert!(
            (sum - recorded_sum).abs() <= 1e-9 * recorded_sum,
            "{name}: sum {sum}, recorded {recorded_sum}"
        );
        let theirs = get(&recorded, &format!("{name}/out_f32_rows_hwc"));
        for (k, row) in case["rows"].as_array().unwrap().iter().enumerate() {
            let row = row.as_u64().unwrap() as usize;
            let theirs = Vec::<f32>::try_from(theirs.get(k as i64).flatten(0, -1)).unwrap();
            assert_eq!(&ours[row * to[1] * 3..][..to[1] * 3], theirs, "{name} row {row}");
        }
    }
}

#[test]
fn features_agree_with_tensorflow_and_torch() {
    let io = recipe::tensors("inception.safetensors");
    let network = network();
    for side in sides(&io) {
        let features = network.features(&pictures(&io, side)).unwrap();
        for source in ["adm", "f64", "torch"] {
            near(
                &format!("{source} pool {side}"),
                &features.pool,
                &get(&io, &format!("{source}_pool3_{side}")),
                FEATURES,
            );
            let spatial = get(&io, &format!("{source}_spatial_{side}"));
            near(&format!("{source} spatial {side}"), &features.spatial, &spatial, FEATURES);
        }
        let probabilities = features.logits.softmax(-1, Kind::Float);
        near("adm softmax", &probabilities, &get(&io, &format!("adm_softmax_{side}")), PROBABILITIES);
        near(
            "torch softmax",
            &probabilities,
            &get(&io, &format!("torch_softmax_nobias_{side}")),
            PROBABILITIES,
        );
    }
}

/// torch and this host may sum in another order; pytorch-fid's range is ±1.
const TORCH_RESIZE: f64 = 1e-5;

#[test]
fn pytorch_fids_way_is_an_option() {
    let io = recipe::tensors("inception.safetensors");
    let network = network();
    for side in sides(&io) {
        let bytes = bytes_of(&get(&io, &format!("img_u8_{side}")));
        let pictures =
            prepare(&RawPictures { bytes: &bytes, size: [side, side] }, Resize::PytorchFid, 2).unwrap();
        // The recorded rows may be before or after the scaling to ±1, and of bytes or of fractions.
        let recorded = get(&io, &format!("resize_torch_{side}_img0_rows0_20")).to_kind(Kind::Double);
        let ours = pictures.get(0).narrow(1, 0, recorded.size()[1]).to_kind(Kind::Double);
        let fractions: Tensor = (ours + 1.0) / 2.0;
        let greatest = recorded.max().double_value(&[]);
        let scale = if greatest > 2.0 { 255.0 } else { 1.0 };
        near("torch resize", &(fractions * scale), &recorded, TORCH_RESIZE * scale);
        let features = network.features(&pictures).unwrap();
        near("pytorch-fid pool", &features.pool, &get(&io, &format!("pytorchfid_pool3_{side}")), FEATURES);
    }
}

/// Constants stay, and a picture of 299 × 299 is only scaled.
#[test]
fn clean_fids_way_is_an_option() {
    let flat = vec![77u8; 64 * 64 * 3];
    let prepared = prepare(&RawPictures { bytes: &flat, size: [64, 64] }, Resize::CleanFid, 2).unwrap();
    near("constant", &prepared, &(prepared.ones_like() * ((77.0 - 128.0) / 128.0)), 1e-6);
    let noise = structured_images(1, "clean", 1, 299);
    let [same, adm] = [Resize::CleanFid, Resize::Adm]
        .map(|resize| prepare(&RawPictures { bytes: &noise, size: [299, 299] }, resize, 2).unwrap());
    near("identity", &same, &adm, 0.0);
}

#[test]
fn every_layer_agrees() {
    let io = recipe::tensors("inception.safetensors");
    let map = json("inception_tf_torch_map.json");
    // TensorFlow's scope of every layer that our names know.
    let mut scopes: HashMap<String, String> = HashMap::new();
    for (scope, block) in map["blocks"].as_object().unwrap() {
        scopes.insert(text(block).into(), format!("{scope}/join"));
        scopes.insert(scope.clone(), scope.clone());
    }
    for entry in map["tensors"].as_array().unwrap() {
        if let Some(name) = text(&entry["torch"]).strip_suffix(".conv.weight") {
            scopes.insert(name.into(), text(&entry["scope"]).into());
        }
    }
    let network = network();
    for side in sides(&io) {
        let mut seen: BTreeMap<String, Tensor> = BTreeMap::new();
        let mut see = |name: &str, t: &Tensor| {
            if let Some(scope) = scopes.get(name) {
                seen.insert(scope.clone(), t.shallow_clone());
            }
        };
        network.observe(&pictures(&io, side), &mut see).unwrap();
        let prefix = format!("f64_chanmean_{side}/");
        let recorded: Vec<String> =
            io.names().filter_map(|n| n.strip_prefix(&prefix)).map(String::from).collect();
        assert!(recorded.len() > 10);
        for scope in recorded {
            let ours = &seen[&scope].to_kind(Kind::Double);
            let mean = ours.mean_dim([2i64, 3].as_slice(), false, None::<Kind>);
            near(&scope, &mean, &get(&io, &format!("{prefix}{scope}")), FEATURES);
            let spread = ours.std_dim([2i64, 3].as_slice(), true, false);
            near(&scope, &spread, &get(&io, &format!("f64_chanstd_{side}/{scope}")), FEATURES);
        }
        if let Some(full) = io.get(&format!("mixed_6/conv_{side}_img0_CHW")).unwrap() {
            near("mixed_6/conv", &seen["mixed_6/conv"].get(0), full, FEATURES);
        }
    }
}

#[test]
fn wrong_weights_are_refused_by_name() {
    let refuse = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut tensors = narrow_weights();
        change(&mut tensors);
        let error =
            Inception::load(weights::Weights::new("w.safetensors", tensors), Device::Cpu).err().unwrap();
        assert_eq!(stage::exit_code(&error), 2);
        format!("{error:#}")
    };
    let missing = refuse(&|t| drop(t.remove("Mixed_6b.branch7x7_2.conv.weight")));
    assert!(missing.contains("Mixed_6b.branch7x7_2.conv.weight"), "{missing}");
    let misshapen = refuse(&|t| {
        t.insert(
            "Mixed_7c.branch3x3_2a.conv.weight".into(),
            Tensor::zeros([4, 4, 3, 1], (Kind::Float, Device::Cpu)),
        );
    });
    assert!(misshapen.contains("Mixed_7c.branch3x3_2a.conv.weight"), "{misshapen}");
    let surplus = refuse(&|t| {
        t.insert("AuxLogits.fc.weight".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu)));
    });
    assert!(surplus.contains("AuxLogits.fc.weight"), "{surplus}");
}

fn narrow_weights() -> BTreeMap<String, Tensor> {
    let normal = |name: &str, shape: &[i64]| Ok(torch::random::normal(0, name, 0, shape));
    extractors::inception::trainable::Trainable::new(10, |full| full / 16, normal).unwrap().tensors()
}

#[test]
fn a_narrow_member_runs_through_the_same_code() {
    let network = Inception::load(weights::Weights::new("narrow", narrow_weights()), Device::Cpu).unwrap();
    assert_eq!((network.width(), network.classes()), (2048 / 16, 10));
    let bytes = structured_images(1, "narrow", 2, 32);
    let pictures = prepare(&RawPictures { bytes: &bytes, size: [32, 32] }, Resize::Adm, 2).unwrap();
    let features = network.features(&pictures).unwrap();
    assert_eq!(features.pool.size(), [2, 128]);
    assert_eq!(features.spatial.size(), [2, 17 * 17 * 7]);
    assert_eq!(features.logits.size(), [2, 10]);
    assert!(golden("SEED.json").exists());
}

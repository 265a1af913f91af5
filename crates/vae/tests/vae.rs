//! The autoencoder against diffusers' and CompVis' own numbers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};
use vae::{Config, Posterior, Vae};
use weights::Weights;

/// CompVis' code and diffusers' differ by 8.1e-6 on these weights, as do f32 and f64; other hosts sum in other orders.
const TOLERANCE: f64 = 5e-5;

fn golden(name: &str) -> PathBuf {
    let root = std::env::var_os("GOLDEN_DIR").map(PathBuf::from);
    root.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden").into())
        .join("evaluation")
        .join(name)
}

fn tensors(name: &str) -> BTreeMap<String, Tensor> {
    Weights::read(&golden(name)).unwrap().into_tensors().unwrap()
}

fn json(name: &str) -> Json {
    serde_json::from_str(&std::fs::read_to_string(golden(name)).unwrap()).unwrap()
}

fn load(name: &str) -> Vae {
    Vae::load(Weights::read(&golden(name)).unwrap(), Device::Cpu, Kind::Float).unwrap()
}

fn close(name: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.size(), want.size(), "{name}");
    let worst = (got.to_kind(Kind::Double) - want.to_kind(Kind::Double)).abs().max().double_value(&[]);
    assert!(worst <= tolerance, "{name}: off by {worst}, allowed {tolerance}");
}

fn sizes(json: &Json) -> Vec<i64> {
    json.as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect()
}

#[test]
fn every_configuration_matches_layer_by_layer() {
    let described = json("vae.json");
    for (name, about) in described["configs"].as_object().unwrap() {
        let vae = load(&format!("vae_{name}_diffusers_new.safetensors"));
        assert_eq!(vae.config().channels, sizes(&about["block_out_channels"]));
        assert_eq!(vae.config().layers, about["layers_per_block"].as_i64().unwrap());
        let shapes = vae.config().shapes().unwrap();
        assert_eq!(shapes.len() as u64, about["n_tensors"].as_u64().unwrap());
        let parameters: i64 = shapes.values().map(|s| s.iter().product::<i64>()).sum();
        assert_eq!(parameters, about["n_params"].as_i64().unwrap());

        let io = tensors(&format!("vae_{name}_io.safetensors"));
        for case in 0..about["cases"].as_array().unwrap().len() {
            let want = |key: &str| &io[&format!("{case}/{key}")];
            let mut layers: HashMap<String, Tensor> = HashMap::new();
            let mut keep = |layer: &str, t: &Tensor| drop(layers.insert(layer.into(), t.copy()));
            close("input", &vae::from_bytes(want("image_u8_nchw")).unwrap(), want("image"), 0.0);
            let moments = vae.encode_traced(want("image"), &mut keep).unwrap();
            let decoded = vae.decode_traced(want("latent_in"), &mut keep).unwrap();
            let at = |key: &str| format!("{name} case {case} {key}");
            close(&at("moments"), &moments, want("moments_f64"), TOLERANCE);
            close(&at("decoded"), &decoded, want("decoded_f64"), TOLERANCE);

            let posterior = vae.encode_moments(want("image")).unwrap();
            close(&at("mean"), &posterior.mean, want("mean"), TOLERANCE);
            close(&at("std"), &posterior.std, want("std"), TOLERANCE);
            close(&at("logvar"), &posterior.logvar, want("logvar"), TOLERANCE);
            let sample = posterior.sample(want("eps")).unwrap() * vae::LATENT_SCALE;
            close(&at("sample"), &sample, want("scaled_latent_sample"), TOLERANCE);
            let round = vae.decode(&(want("scaled_latent_sample") / vae::LATENT_SCALE)).unwrap();
            close(&at("roundtrip"), &round, want("roundtrip_decoded"), TOLERANCE);
            let bytes = vae::to_bytes(want("roundtrip_decoded")).unwrap().permute([0, 2, 3, 1]);
            close(&at("bytes"), &bytes, want("roundtrip_u8_nhwc"), 0.0);

            let mut checked = 0;
            for (key, value) in &io {
                let Some(key) = key.strip_prefix(&format!("{case}/act_")) else { continue };
                let (what, layer) = key.split_once('/').unwrap();
                let got = layers.get(layer).unwrap_or_else(|| panic!("no layer {layer}"));
                let over = [2i64, 3];
                let got = match what {
                    "chanmean" => got.mean_dim(&over[..], false, Kind::Double),
                    "chanstd" => got.to_kind(Kind::Double).std_dim(&over[..], true, false),
                    _ => got.shallow_clone(),
                };
                close(&at(key), &got, value, TOLERANCE);
                checked += 1;
            }
            assert!(checked >= layers.len(), "only {checked} of {} layers", layers.len());
        }
    }
}

#[test]
fn every_naming_gives_the_same_network() {
    let io = tensors("vae_l0_io.safetensors");
    let reference = load("vae_l0_diffusers_new.safetensors").encode_moments(&io["0/image"]).unwrap();
    let same = |vae: &Vae| {
        let got = vae.encode_moments(&io["0/image"]).unwrap();
        close("moments", &got.mean, &reference.mean, 0.0);
        close("decoded", &vae.decode(&io["0/latent_in"]).unwrap(), &io["0/decoded"], TOLERANCE);
    };
    same(&load("vae_l0_diffusers_old.safetensors"));
    same(&load("vae_l0_ldm.safetensors"));

    // A whole checkpoint: other networks beside it are left alone.
    for prefix in ["first_stage_model.", "vae."] {
        let mut inside: BTreeMap<String, Tensor> = tensors("vae_l0_ldm.safetensors")
            .into_iter()
            .map(|(name, t)| (format!("{prefix}{name}"), t))
            .collect();
        inside.insert(
            "model.diffusion_model.out.2.bias".into(),
            Tensor::zeros([4], (Kind::Float, Device::Cpu)),
        );
        inside.insert(format!("{prefix}loss.logvar"), Tensor::zeros([1], (Kind::Float, Device::Cpu)));
        same(&Vae::load(Weights::new("whole", inside), Device::Cpu, Kind::Float).unwrap());
    }
    let ldm = tensors("vae_l0_ldm.safetensors");
    for (name, example) in tensors("vae_l0_prefix_example.safetensors") {
        close(&name, &example, &ldm[name.strip_prefix("first_stage_model.").unwrap()], 0.0);
    }
}

#[test]
fn the_full_network_has_the_published_tensors() {
    let map = json("vae_sd_keymap.json");
    let shapes = Config::stable_diffusion().shapes().unwrap();
    let rows = map["tensors"].as_array().unwrap();
    assert_eq!(shapes.len(), rows.len());
    let parameters: i64 = shapes.values().map(|s| s.iter().product::<i64>()).sum();
    assert_eq!(parameters, map["n_params"].as_i64().unwrap());
    for row in rows {
        let name = row["diffusers"].as_str().unwrap();
        assert_eq!(shapes.get(name), Some(&sizes(&row["shape"])), "{name}");
    }
    // Each naming loads: tensors of one element expanded to the real shapes cost no memory.
    let zero = Tensor::zeros([1], (Kind::Float, Device::Cpu));
    for (column, shape) in [("diffusers", "shape"), ("diffusers_old", "shape"), ("ldm", "shape_ldm")] {
        let all = rows
            .iter()
            .map(|row| (row[column].as_str().unwrap().to_string(), zero.expand(sizes(&row[shape]), false)));
        let vae = Vae::load(Weights::new(column, all.collect()), Device::Cpu, Kind::Float).unwrap();
        assert_eq!(*vae.config(), Config::stable_diffusion());
        assert_eq!(vae.config().factor(), 8);
    }
}

#[test]
fn posterior_and_bytes_match_at_the_edges() {
    let misc = tensors("vae_misc.safetensors");
    let moments = Posterior::new(&misc["params"]).unwrap();
    close("mean", &moments.mean, &misc["mean"], 0.0);
    close("logvar", &moments.logvar, &misc["logvar"], 0.0);
    close("std", &(&moments.std / &misc["std"]), &misc["std"].ones_like(), 1e-6);
    close("var", &(moments.logvar.exp() / &misc["var"]), &misc["var"].ones_like(), 1e-6);
    close("kl", &(moments.kl().unwrap() / &misc["kl"]), &misc["kl"].ones_like(), 1e-5);
    close("bytes", &vae::to_bytes(&misc["to_u8_in"]).unwrap(), &misc["to_u8_out"], 0.0);
}

#[test]
fn stored_halves_are_computed_in_full() {
    let half = |kind: Kind| {
        let weights = tensors("vae_l0_diffusers_new.safetensors");
        let weights = weights.into_iter().map(|(n, t)| (n, t.to_kind(kind))).collect();
        Vae::load(Weights::new("half", weights), Device::Cpu, Kind::Float).unwrap()
    };
    let io = tensors("vae_l0_io.safetensors");
    let want = &io["0/decoded"];
    for (kind, tolerance) in [(Kind::Half, 0.02), (Kind::BFloat16, 0.15)] {
        let got = half(kind).decode(&io["0/latent_in"]).unwrap();
        assert_eq!(got.kind(), Kind::Float);
        close("decoded", &got, want, tolerance);
    }
    let weights = Weights::read(&golden("vae_l0_diffusers_new.safetensors")).unwrap();
    let vae = Vae::load(weights, Device::Cpu, Kind::BFloat16).unwrap();
    let error = (vae.decode(&io["0/latent_in"]).unwrap() - want).abs().mean(Kind::Float).double_value(&[]);
    assert!(error < 0.05, "bfloat16 is off by {error} on average");
}

#[test]
fn wrong_weights_are_refused_by_name() {
    let error = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut all = tensors("vae_l0_diffusers_new.safetensors");
        change(&mut all);
        let e = Vae::load(Weights::new("vae.safetensors", all), Device::Cpu, Kind::Float).err().unwrap();
        assert_eq!(stage::exit_code(&e), 2);
        format!("{e:#}")
    };
    let name = "decoder.mid_block.attentions.0.to_q.bias";
    let text = error(&|all| drop(all.remove(name)));
    assert!(text.starts_with(&format!("vae.safetensors: no tensor {name}")), "{text}");
    let text = error(&|all| drop(all.insert(name.into(), Tensor::zeros([5], (Kind::Float, Device::Cpu)))));
    assert!(text.contains(name) && text.contains("[5]"), "{text}");
    let text =
        error(&|all| drop(all.insert("fc.weight".into(), Tensor::zeros([5], (Kind::Float, Device::Cpu)))));
    assert_eq!(text, "vae.safetensors: surplus tensors fc.weight");
    let text = error(&|all| all.clear());
    assert_eq!(text, "vae.safetensors: no tensor encoder.conv_in.weight, so no AutoencoderKL");
}

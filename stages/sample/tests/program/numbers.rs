//! Numbers that are none end the work with the name of what holds them.

use crate::support::Place;
use std::collections::BTreeMap;
use std::process::Output;
use tch::Tensor;
use torch::random;
use weights::Weights;

/// The one line of an error that is not the caller's.
fn fails(place: &Place, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = text.lines().last().unwrap_or_default();
    assert_eq!((output.status.code(), text.matches("error: ").count()), (Some(1), 1), "{text}");
    assert!(last.starts_with("error: ") && !text.contains("frame #"), "{text}");
    assert!(!place.path("a").exists());
    last.to_string()
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let place = Place::new();
    let path = place.path("network/step-00000007.safetensors");
    let checkpoint = Weights::read(&path).unwrap();
    let metadata = checkpoint.metadata().clone();
    let tensors = checkpoint.into_tensors().unwrap();
    // One number of the average.
    let _ = tensors["ema.0.99.blocks.0.attn.qkv.weight"].get(0).get(0).fill_(f64::NAN);
    weights::write(&path, tensors.iter().map(|(n, t)| (n.clone(), t)), &metadata).unwrap();
    let error = fails(&place, &place.run("a", 1, "--steps 2"));
    assert!(error.contains("tensor blocks.0.attn.qkv.weight holds numbers that are none"), "{error}");
    // The weights that are not sampled from are no matter.
    place.sample("b", 1, "--steps 2 --weights model");
}

#[test]
fn an_autoencoder_of_infinite_weights_is_named() {
    let place = Place::new();
    let config = vae::Config { channels: vec![32, 32], layers: 1, latent: 4, picture: 3 };
    let tensors: BTreeMap<String, Tensor> = (config.shapes().unwrap().iter())
        .map(|(name, shape)| {
            let scale = if name == "decoder.conv_out.bias" { f64::INFINITY } else { 0.1 };
            (name.clone(), random::normal(1, name, 0, shape) * scale)
        })
        .collect();
    weights::write(&place.path("vae"), tensors.iter().map(|(n, t)| (n.clone(), t)), &BTreeMap::new())
        .unwrap();
    place.checkpoint("network", &stage::digest(&place.path("vae")).unwrap());
    let error = fails(&place, &place.run("a", 1, "--steps 2"));
    assert!(error.contains("tensor decoder.conv_out.bias holds numbers that are none"), "{error}");
}

#[test]
fn a_guidance_that_overflows_is_named() {
    let place = Place::new();
    let error = fails(&place, &place.run("a", 2, "--steps 3 --guidance 1e38"));
    assert!(error.contains("the latents of picture 0 hold numbers that are none"), "{error}");
    assert!(error.contains("--guidance"), "{error}");
}

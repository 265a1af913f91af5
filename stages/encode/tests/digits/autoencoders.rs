//! What a folder of latents says of its autoencoder, and what is refused.

use crate::support::{digits, encode, images, refuses, succeeds};
use pictures::Manifest;
use shards::Latents;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use tch::{Kind, Tensor};
use weights::Weights;

#[test]
fn bad_input_is_one_line_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("images"), 20, Some(13));
    refuses(&encode(dir.path(), &[]), "data/00001.parquet row 3 (0013.png): not a picture");
    assert!(!dir.path().join("latents").exists());
    refuses(&encode(dir.path(), &["--image-size", "30"]), "use a multiple of 4");
    std::fs::write(dir.path().join("w.safetensors"), b"no").unwrap();
    refuses(&encode(dir.path(), &["--vae", "w.safetensors"]), "w.safetensors");

    images(&dir.path().join("images"), 20, None);
    let path = dir.path().join("images/data/00000.parquet");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    refuses(&encode(dir.path(), &[]), "images/data/00000.parquet: its SHA-256 is not the manifest's");
    std::fs::write(&path, &bytes[..99]).unwrap();
    refuses(&encode(dir.path(), &[]), "images/data/00000.parquet: 99 bytes, the manifest says");
}

/// What the manifest says of the latents.
fn described(dir: &Path) -> shards::LatentsMetadata {
    Latents::open(&dir.join("latents")).unwrap().about().clone()
}

#[test]
fn latents_are_scaled_as_the_autoencoder_s_config_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    images(&path("images"), 4, None);
    std::fs::create_dir(path("sdxl")).unwrap();
    std::fs::copy(digits("vae.safetensors"), path("sdxl/vae.safetensors")).unwrap();
    let config = |text: &str| std::fs::write(path("sdxl/config.json"), text).unwrap();
    config(r#"{"_class_name": "AutoencoderKL", "scaling_factor": 0.13025, "shift_factor": null}"#);
    let space = |flags: &[&str]| {
        succeeds(&encode(dir.path(), &[&["--vae", "sdxl"], flags].concat()));
        let about = described(dir.path());
        std::fs::remove_dir_all(path("latents")).unwrap();
        (about.scale, about.shift)
    };
    assert_eq!(space(&[]), (0.13025, 0.0));
    assert_eq!(space(&["--scale", "0.5", "--shift", "-0.25"]), (0.5, -0.25));
    config(r#"{"_class_name": "AutoencoderKL", "scaling_factor": 0.3611, "shift_factor": 0.1159}"#);
    assert_eq!(space(&[]), (0.3611, 0.1159));
    // A file is not its folder: what lies beside it is no input, and where it says something else that is told.
    refuses(&encode(dir.path(), &["--vae", "sdxl/vae.safetensors"]), "name the folder");
    config(r#"{"_class_name": "AutoencoderKL", "latent_channels": 16}"#);
    refuses(&encode(dir.path(), &["--vae", "sdxl"]), "says 16");
    config(r#"{"_class_name": "VQModel"}"#);
    refuses(&encode(dir.path(), &["--vae", "sdxl"]), "of VQModel, not AutoencoderKL");
    std::fs::write(path("pointer.safetensors"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        .unwrap();
    refuses(&encode(dir.path(), &["--vae", "pointer.safetensors"]), "git lfs pull");
}

#[test]
fn one_autoencoder_is_the_same_whatever_its_form() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("images"), 4, None);
    succeeds(&encode(dir.path(), &[]));
    let wanted = described(dir.path()).vae;
    let tensors = Weights::read(&digits("vae.safetensors")).unwrap().into_tensors().unwrap();
    let write = |name: &str, change: &dyn Fn(&str, &Tensor) -> (String, Tensor)| {
        let changed: Vec<_> = tensors.iter().map(|(name, tensor)| change(name, tensor)).collect();
        let all = changed.iter().map(|(name, tensor)| (name.clone(), tensor));
        weights::write(&dir.path().join(name), all, &Default::default()).unwrap();
        std::fs::remove_dir_all(dir.path().join("latents")).unwrap();
        succeeds(&encode(dir.path(), &["--vae", name]));
        described(dir.path()).vae
    };
    let half = write("half.safetensors", &|name, tensor| (name.into(), tensor.to_kind(Kind::Half)));
    let inside = write("inside.safetensors", &|name, tensor| (format!("vae.{name}"), tensor.shallow_clone()));
    let other = write("other.safetensors", &|name, tensor| (name.into(), tensor * 1.01));
    assert_eq!([half, inside], [wanted.clone(), wanted.clone()]);
    assert_ne!(other, wanted);
}

#[test]
fn numbers_that_are_none_are_named_and_names_of_classes_travel() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("images"), 10, None);
    let fails = |vae: &str, what: &str| {
        let output = encode(dir.path(), &["--vae", vae]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), text.matches("error: ").count()), (Some(1), 1), "{text}");
        assert!(text.contains(what) && !text.contains("frame #"), "{text}");
        assert!(!dir.path().join("latents").exists());
    };
    let altered = |name: &str, tensor: &str, by: f64| {
        let tensors = Weights::read(&digits("vae.safetensors")).unwrap().into_tensors().unwrap();
        let altered: std::collections::BTreeMap<String, Tensor> = tensors
            .into_iter()
            .map(|(n, t)| if n == tensor { (n, t.to_kind(Kind::Float) * by) } else { (n, t) })
            .collect();
        let tensors = altered.iter().map(|(name, tensor)| (name.clone(), tensor));
        weights::write(&dir.path().join(name), tensors, &Default::default()).unwrap();
    };
    altered("nan.safetensors", "encoder.conv_in.weight", f64::NAN);
    fails("nan.safetensors", "tensor encoder.conv_in.weight holds numbers that are none");
    // Numbers that half precision does not have.
    altered("large.safetensors", "quant_conv.weight", 1e8);
    fails("large.safetensors", "data/00000.parquet:0:0000.png: the mean of its latent holds");

    let path = dir.path().join("images/manifest.json");
    let mut manifest: Manifest = stage::read_json(&path).unwrap();
    manifest.class_names = (0..10).map(|class| format!("digit {class}")).collect();
    stage::write_json(&path, &manifest).unwrap();
    succeeds(&encode(dir.path(), &[]));
    let latents = Latents::open(&dir.path().join("latents")).unwrap();
    assert_eq!(latents.about().class_names, manifest.class_names);
}

#[test]
fn what_cannot_be_is_found_before_there_are_pictures() {
    let check = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_encode"));
        command.arg("--check").args(flags).output().unwrap()
    };
    let vae = digits("vae.safetensors");
    let with = |flags: &[&'static str]| check(&[flags, &["--vae", vae.to_str().unwrap()]].concat());
    succeeds(&check(&["--image-size", "30"]));
    refuses(&with(&["--image-size", "30"]), "--image-size 30: this network halves to a 4th");
    let fits = with(&["--image-size", "32", "--flip", "true"]);
    let force: BTreeMap<String, String> = serde_json::from_slice(&fits.stdout).unwrap();
    assert_eq!((force["image-size"].as_str(), force["flip"].as_str()), ("32", "true"));
    assert!(force.contains_key("shard-rows") && !force.contains_key("vae") && !force.contains_key("shift"));
    refuses(&check(&["--channel-statistics", "true", "--shift", "1"]), "give one");
    refuses(&check(&["--shards", "2", "--shard", "2"]), "with --shards 2 they are 0 to 1");
    refuses(&check(&["--device", "cudaa:0"]), "--device: `cudaa:0` is none of auto, cpu, cuda:N");
    refuses(&check(&["--image-sise", "32"]), "did you mean --image-size?");
    // Where it will be computed there may be such a GPU.
    let far = check(&["--device", "cuda:99"]);
    succeeds(&far);
    let said = String::from_utf8_lossy(&far.stderr);
    assert!(said.starts_with("warning: --device cuda:99: ") && said.lines().count() == 1, "{said}");
    assert!(fits.stderr.is_empty());
}

//! Classes by name, from the checkpoint to the samples.

use crate::support::{CLASSES, Place, array};
use models::checkpoint::{CheckpointMetadata, LatentSpace};
use models::diffusion::NoiseSchedule;
use models::{Config, Network};
use npz::Npz;
use tch::Device;
use torch::flat::Flat;

/// A checkpoint whose classes have these names.
fn named(place: &Place, names: &[&str]) {
    let config = Config::preset("switch-dit-tiny/2", 4, CLASSES).unwrap();
    let network = Network::fresh(&config, 0, Device::Cpu).unwrap();
    let flat = Flat::new(network.parameters());
    let vae = stage::digest(&place.path("vae")).unwrap();
    let latents = LatentSpace::scaled(vae::LATENT_SCALE, &vae);
    let mut about = CheckpointMetadata::new(7, config, NoiseSchedule::Linear, vec![0.99], latents);
    about.class_names = names.iter().map(|name| name.to_string()).collect();
    place.write("network", &network, &flat, &flat.values, &about);
}

fn labels(place: &Place, name: &str) -> Vec<i64> {
    let (_, labels) = array(&place.path(name).join("samples.npz"), "arr_1");
    labels.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn classes_are_sampled_by_name_and_their_names_come_along() {
    let place = Place::new();
    named(&place, &["ant", "bee", "cow"]);
    place.sample("a", 5, "--steps 2 --labels cow,ant");
    assert_eq!(labels(&place, "a"), [2, 0, 2, 0, 2]);
    let mut npz = Npz::open(&place.path("a/samples.npz")).unwrap();
    assert_eq!(npz::class_names(&mut npz).unwrap(), ["ant", "bee", "cow"]);

    let parts = place.path("parts");
    std::fs::create_dir(&parts).unwrap();
    for shard in ["0", "1"] {
        let flags = format!("--steps 2 --labels cow,ant --batch-size 3 --shards 2 --shard {shard}");
        let piece = format!("piece-{shard}");
        place.sample(&piece, 5, &flags);
        std::fs::rename(place.path(&piece), parts.join(shard)).unwrap();
    }
    place.sample("joined", 5, &format!("--samples-parts {}", parts.display()));
    let mut npz = Npz::open(&place.path("joined/samples.npz")).unwrap();
    assert_eq!(npz::class_names(&mut npz).unwrap(), ["ant", "bee", "cow"]);

    let output = place.run("b", 1, "--steps 2 --labels aunt");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2)
            && text.contains("one of the classes ant, bee, cow; did you mean ant?"),
        "{text}"
    );
    assert!(!place.path("b").exists());
}

#[test]
fn classes_without_names_are_sampled_by_number() {
    let place = Place::new();
    place.sample("a", 3, "--steps 2 --labels 2");
    assert_eq!(labels(&place, "a"), [2, 2, 2]);
    let mut npz = Npz::open(&place.path("a/samples.npz")).unwrap();
    assert!(npz::class_names(&mut npz).unwrap().is_empty());
    let output = place.run("b", 1, "--steps 2 --labels 3");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && text.contains("numbers from 0 to 2"), "{text}");
}

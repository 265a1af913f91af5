//! Classes by name, from the checkpoint to the samples.

use crate::support::{CLASSES, Place, array};
use models::checkpoint::{CheckpointMetadata, LatentSpace};
use models::diffusion::NoiseSchedule;
use models::{Config, Network};
use npz::Npz;
use std::process::Command;
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

#[test]
fn what_cannot_be_is_found_before_there_is_a_network_and_the_rest_beside_it() {
    let place = Place::new();
    named(&place, &["cat", "dog", "owl"]);
    let check = |flags: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
        let output = command.arg("--check").args(flags.split_whitespace()).output().unwrap();
        (output.status.code(), [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()))
    };
    let refused = |flags: &str, why: &str| {
        let (code, [_, said]) = check(flags);
        assert!(code == Some(2) && said.contains(why) && said.lines().count() == 1, "{flags}: {said}");
    };
    let warned = |flags: &str, why: &str| {
        let (code, [force, said]) = check(flags);
        assert!(code == Some(0) && force.starts_with('{'), "{flags}: {said}");
        assert_eq!(said.is_empty(), why.is_empty(), "{flags}: {said}");
        assert!(said.is_empty() || said.starts_with("warning: ") && said.contains(why), "{flags}: {said}");
    };
    warned("", "");
    warned("--labels cat,dog --sampler heun --steps 10", "");
    warned("--labels balnced", "--labels balnced: taken for a class; did you mean balanced?");
    warned("--device cuda:99", "--device cuda:99: ");
    refused("--labels ,", "no labels");
    refused("--eta 0.5", "--eta 0.5: only ddim takes it, not ddpm");
    refused("--sampler euler --eta 0.5", "--eta 0.5: only ddim takes it, not euler");
    refused("--guidance-interval 800,200", "--guidance-interval 800,200: give first timestep and last + 1");
    refused("--shards 3 --shard 3", "with --shards 3 they are 0 to 2");
    refused("--device cdua:0", "none of auto, cpu, cuda:N");
    // With the network, what depends on it.
    let network = format!("--checkpoints {}", place.path("network").display());
    let vae = format!("--vae {}", place.path("vae").display());
    warned(&format!("{network} {vae} --labels owl"), "");
    refused(&format!("{network} --labels dgo"), "one of the classes cat, dog, owl; did you mean dog?");
    refused(&format!("{network} --labels balnced"), "did you mean balanced?");
    refused(&format!("{network} --sampler heun"), "--sampler heun: the network predicts noise; use ddpm");
    refused(&format!("{network} {vae} --scale 3"), "--scale: the checkpoint's latents have 0.18215");
}

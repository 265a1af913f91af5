//! What `sample` does to what stands at its outputs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../crates/stage/tests/support/outputs.rs"]
mod rules;

use models::checkpoint::{CheckpointMetadata, Content, LatentSpace};
use models::diffusion::NoiseSchedule;
use models::{Config, Network};
use rules::{everything, keeps_files, keeps_folders, refuses, stands_apart, succeeds};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tch::Device;
use torch::flat::Flat;
use vae::LATENT_SCALE;

fn vae() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/digits/vae.safetensors")
}

/// A folder with a checkpoint.
fn checkpoints(folder: &Path, step: usize) -> PathBuf {
    let latents = LatentSpace { scale: LATENT_SCALE, vae: stage::digest(&vae()).unwrap() };
    let vae = vae::Vae::load(weights::Weights::read(&vae()).unwrap(), Device::Cpu, tch::Kind::Float);
    let channels = vae.unwrap().config().latent;
    let config = Config { channels, ..Config::preset("switch-dit-tiny/2", 4, 3).unwrap() };
    let network = Network::fresh(&config, 0, Device::Cpu).unwrap();
    let flat = Flat::new(network.parameters());
    let mut content = Content::default();
    content.state("model.", &network, &flat, &flat.values);
    content.state("ema.0.99.", &network, &flat, &flat.values);
    let about = CheckpointMetadata::new(step, config, NoiseSchedule::Linear, vec![0.99], latents);
    let checkpoints = folder.join("checkpoints");
    fs::create_dir_all(&checkpoints).unwrap();
    content.write(&checkpoints.join(models::checkpoint::file_name(step)), &about).unwrap();
    checkpoints
}

fn sample(checkpoints: &Path, to: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
    command.args(["--threads", "1", "--device", "cpu", "--steps", "1", "--images", "3", "--checkpoints"]);
    command.arg(checkpoints).arg("--vae").arg(vae()).arg("--samples").arg(to).args(more);
    command
}

fn convert(checkpoints: &Path, to: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
    command.arg("--checkpoints").arg(checkpoints).arg("--convert").arg(to);
    command
}

#[test]
fn what_is_not_its_own_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let from = checkpoints(dir.path(), 7);
    keeps_folders(dir.path(), "--samples", |to| sample(&from, to, &[]));
    stands_apart(dir.path(), "--samples", &from, |to| sample(&from, to, &[]));
    for ending in [".pt", ".safetensors"] {
        keeps_files(dir.path(), "--convert", ending, |to| convert(&from, to));
        fs::remove_file(dir.path().join(format!("convert-link{ending}"))).unwrap();
    }
    stands_apart(dir.path(), "--convert", &from, |to| convert(&from, to));
    // Pictures of the user's under names like ours.
    let mine = dir.path().join("mine");
    fs::create_dir_all(mine.join("images")).unwrap();
    fs::write(mine.join("images/000000.png"), "mine").unwrap();
    refuses(dir.path(), sample(&from, &mine, &[]), &["holds samples.npz, which sample did not make"]);
    // A checkpoint of a training's.
    let other = tempfile::tempdir().unwrap();
    let theirs = checkpoints(other.path(), 9).join("step-00000009.safetensors");
    refuses(other.path(), convert(&from, &theirs), &["--convert", "a file that sample did not make"]);
    // The file that is read, under another name.
    fs::hard_link(from.join("step-00000007.safetensors"), dir.path().join("second.safetensors")).unwrap();
    let file = from.join("step-00000007.safetensors");
    refuses(
        dir.path(),
        convert(&file, &dir.path().join("second.safetensors")),
        &["--convert", "is --checkpoints"],
    );
    let both =
        sample(&from, &dir.path().join("new"), &["--convert", dir.path().join("new/a.pt").to_str().unwrap()]);
    refuses(dir.path(), both, &["--convert", "lies in --samples"]);
}

#[test]
fn earlier_outputs_are_replaced_by_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (checkpoints(dir.path(), 7), dir.path().join("samples"));
    succeeds(sample(&from, &to, &[]));
    for name in ["a.pt", "a.safetensors"] {
        succeeds(convert(&from, &dir.path().join(name)));
    }
    let first = everything(dir.path());
    succeeds(sample(&from, &to, &[]));
    for name in ["a.pt", "a.safetensors"] {
        succeeds(convert(&from, &dir.path().join(name)));
    }
    assert!(everything(dir.path()) == first);
    for mine in ["thesis.txt", "images/000003.png", "images/1.png", "images/cat.png"] {
        fs::write(to.join(mine), "mine").unwrap();
        refuses(dir.path(), sample(&from, &to, &[]), &[&format!("holds {mine}, which sample did not make")]);
        fs::remove_file(to.join(mine)).unwrap();
    }
    fs::write(to.join("samples.npz"), "mine").unwrap();
    refuses(dir.path(), sample(&from, &to, &[]), &["holds samples.npz"]);
}

/// A sampling killed while it replaces an earlier one.
#[test]
fn killed_at_any_moment_the_samples_are_the_earlier_or_the_new() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (checkpoints(dir.path(), 7), dir.path().join("samples"));
    let content = || everything(&to).into_values().collect::<Vec<_>>();
    let all: Vec<_> = ["1", "2"]
        .map(|seed| {
            let begin = std::time::Instant::now();
            succeeds(sample(&from, &to, &["--seed", seed]));
            (content(), begin.elapsed())
        })
        .into();
    assert!(all[0].0 != all[1].0);
    for i in 0..20u32 {
        let seed = ["1", "2"][i as usize % 2];
        let mut child =
            sample(&from, &to, &["--seed", seed]).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(all[1].1.mul_f64(0.5 + f64::from(i) / 40.0));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            all.iter().any(|(samples, _)| *samples == content()),
            "neither the earlier nor the new samples"
        );
    }
    succeeds(sample(&from, &to, &["--seed", "1"]));
    assert!(content() == all[0].0);
    let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["checkpoints", "samples"]);
}

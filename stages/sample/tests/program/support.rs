//! Checkpoints to sample from, and the program.

use models::checkpoint::{CheckpointMetadata, Content, LatentSpace};
use models::diffusion::NoiseSchedule;
use models::{Config, Network};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tch::{Device, Tensor};
use torch::flat::Flat;
use torch::random;

/// A checkpoint and an autoencoder, random, and a place for outputs.
pub struct Place {
    folder: tempfile::TempDir,
}

pub const CLASSES: i64 = 3;

impl Place {
    pub fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        let vae = vae::Config { channels: vec![32, 32], layers: 1, latent: 4, picture: 3 };
        let tensors: BTreeMap<String, Tensor> = (vae.shapes().unwrap().iter())
            .map(|(name, shape)| (name.clone(), random::normal(1, name, 0, shape) * 0.1))
            .collect();
        weights::write(&place.path("vae"), tensors.iter().map(|(n, t)| (n.clone(), t)), &BTreeMap::new())
            .unwrap();
        place.checkpoint("network", &stage::digest(&place.path("vae")).unwrap());
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A checkpoint in a folder of its own, trained on the latents of the autoencoder with this digest.
    pub fn checkpoint(&self, name: &str, vae: &str) {
        self.expert(name, vae, 2, [0, 1000]);
    }

    /// A checkpoint with its average drawn from `seed`, trained on an interval of the timesteps.
    pub fn expert(&self, name: &str, vae: &str, seed: u64, interval: [i64; 2]) {
        let config = Config::preset("switch-dit-tiny/2", 4, CLASSES).unwrap();
        let network = Network::fresh(&config, 0, Device::Cpu).unwrap();
        let flat = Flat::new(network.parameters());
        let values = random::normal(seed, "weights", 0, &flat.values.size()) * 0.05;
        let latents = LatentSpace::scaled(vae::LATENT_SCALE, vae);
        let mut about = CheckpointMetadata::new(7, config, NoiseSchedule::Linear, vec![0.99], latents);
        about.interval = interval;
        self.write(name, &network, &flat, &values, &about);
    }

    /// A checkpoint of `network` with these values as its average.
    pub fn write(
        &self,
        name: &str,
        network: &Network,
        flat: &Flat,
        values: &Tensor,
        about: &CheckpointMetadata,
    ) {
        let mut content = Content::default();
        content.state("model.", network, flat, &flat.values);
        content.state("ema.0.99.", network, flat, values);
        fs::create_dir_all(self.path(name)).unwrap();
        content.write(&self.path(name).join("step-00000007.safetensors"), about).unwrap();
    }

    pub fn command(&self, name: &str, images: usize, flags: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
        let inputs =
            if flags.contains("--checkpoints") { vec![] } else { vec![("--checkpoints", "network")] };
        for (flag, path) in inputs.into_iter().chain([("--vae", "vae"), ("--samples", name)]) {
            command.arg(flag).arg(self.path(path));
        }
        command
            .args(if flags.contains("--labels") { &[][..] } else { &["--labels", "balanced"] })
            .args(if flags.contains("--device") { &[][..] } else { &["--device", "cpu"] })
            .args(["--threads", "1"])
            .args(["--images", &images.to_string()])
            .args(flags.split_whitespace())
            .env("PIPELINE_STATE", self.path(&format!("{name}.state")))
            .env_remove("PIPELINE_EVENTS");
        command
    }

    pub fn run(&self, name: &str, images: usize, flags: &str) -> Output {
        self.command(name, images, flags).output().unwrap()
    }

    pub fn sample(&self, name: &str, images: usize, flags: &str) {
        let output = self.run(name, images, flags);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn npz(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name).join("samples.npz")).unwrap()
    }

    /// Names and bytes of the pictures.
    pub fn pictures(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.path(name).join("images")).unwrap().flatten();
        let mut all: Vec<_> = entries
            .map(|e| (e.file_name().to_string_lossy().into_owned(), fs::read(e.path()).unwrap()))
            .collect();
        all.sort();
        all
    }
}

/// The header's text and the data of an array.
pub fn array(npz: &Path, name: &str) -> (String, Vec<u8>) {
    let mut archive = zip::ZipArchive::new(fs::File::open(npz).unwrap()).unwrap();
    let mut bytes = Vec::new();
    archive.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!((end % 64, bytes[end - 1]), (0, b'\n'));
    (String::from_utf8(bytes[10..end].to_vec()).unwrap().trim().to_string(), bytes[end..].to_vec())
}

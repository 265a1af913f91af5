//! Steps over fixed tensors against the usual ones, bit by bit: what a graph repeats is the former.

use super::*;
use crate::sampler::Sampler;
use crate::{Args, experts::Experts};
use models::checkpoint::{CheckpointMetadata, Content, LatentSpace};
use models::diffusion::NoiseSchedule;
use models::{Config, Network};
use stage::{Arguments, Values};
use std::path::Path;
use tch::Device;
use torch::flat::Flat;
use torch::random;

fn sampler(checkpoint: &Path, precision: &str) -> Sampler {
    let path = checkpoint.display().to_string();
    let given = [("checkpoints", path.as_str()), ("steps", "6"), ("precision", precision)];
    let args = Args::from_values(&Values::new(&Args::spec(), given).unwrap()).unwrap();
    Sampler::new(&args, Experts::read(&args, Device::Cpu).unwrap()).unwrap()
}

#[test]
fn fixed_tensors_give_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("step-00000001.safetensors");
    for model in ["switch-dit-tiny/2", "dtr-tiny/2"] {
        let config = Config::preset(model, 4, 3).unwrap();
        let network = Network::fresh(&config, 0, Device::Cpu).unwrap();
        let flat = Flat::new(network.parameters());
        let values = random::normal(2, "weights", 0, &flat.values.size()) * 0.05;
        let latents = LatentSpace { scale: 1.0, vae: String::new() };
        let about = CheckpointMetadata::new(1, config, NoiseSchedule::Cosine, vec![0.99], latents);
        let mut content = Content::default();
        content.state("model.", &network, &flat, &values);
        content.state("ema.0.99.", &network, &flat, &values);
        content.write(&path, &about).unwrap();
        for precision in ["f32", "bf16"] {
            let (mut usual, mut fixed) = (sampler(&path, precision), sampler(&path, precision));
            fixed.graphed = Some(GraphedStep::new(None));
            // Two batches of one size, and one that is smaller.
            for (first, count) in [(0, 4), (4, 4), (8, 3)] {
                let latents = |sampler: &mut Sampler| sampler.latents(first, count, || Ok(())).unwrap();
                let (a, b) = (latents(&mut usual), latents(&mut fixed));
                assert!(a.equal(&b) && a.abs().max().double_value(&[]) > 0.0, "{model} {precision} {first}");
            }
        }
    }
}

//! A pass over fixed tensors against the usual one, bit by bit: what a graph repeats is the former.

use super::*;
use crate::trainer::Trainer;
use crate::{Args, Objective, TrainingConfig};
use models::checkpoint::{Checkpoint, LatentSpace};
use stage::{Arguments, Values};
use tch::Device;
use torch::parallel::ProcessGroup;
use torch::random;

const IMAGES: i64 = 8;

fn config(flags: &[(&str, &str)]) -> TrainingConfig {
    let standard = [("latents", "-"), ("checkpoints", "-"), ("log", "-"), ("model", "switch-dit-tiny/2")];
    let given = standard.iter().chain([&("batch-size", "8")]).chain(flags).copied();
    let args = Args::from_values(&Values::new(&Args::spec(), given).unwrap()).unwrap();
    let network = crate::config::network(&args, 4, 4, 3).unwrap();
    TrainingConfig {
        objective: Objective::new(&args, &network).unwrap(),
        network,
        prediction: args.prediction,
        schedule: args.schedule,
        latents: LatentSpace::scaled(1.0, ""),
        class_names: Vec::new(),
        rows: 64,
        batch_size: args.batch_size,
        learning_rate: 1e-3,
        weight_decay: args.weight_decay,
        ema_decay: args.ema_decay.clone(),
        warm_up: 2,
        clip: 1.0,
        accumulate: 1,
        precision: args.precision,
        seed: 5,
        initialize: None,
        new_labels: false,
    }
}

fn batch(config: &TrainingConfig, step: u64) -> StepBatch {
    let network = &config.network;
    let pictures = [IMAGES, network.channels, network.side, network.side];
    StepBatch {
        latents: random::normal(1, "latents", step, &pictures),
        labels: random::integers(1, "labels", step, network.classes, &[IMAGES]),
        noise: random::normal(1, "noise", step, &pictures),
        timesteps: config.objective.timesteps(1, step, IMAGES),
        label_dropout: random::uniform(1, "label-dropout", step, &[IMAGES]),
        gates: Some(random::normal(1, "gates", step, &[IMAGES, network.blocks, network.experts])),
    }
}

/// The checkpoint after four steps, whose passes are those of `fixed` where it is true.
fn trained(config: &TrainingConfig, fixed: bool) -> Vec<(String, Tensor)> {
    let group = ProcessGroup::default();
    let mut trainer = Trainer::fresh(config.clone(), Device::Cpu, &group).unwrap();
    if fixed {
        trainer.graphs = Some(GraphedPass::new(None));
    }
    for step in 0..4 {
        trainer.advance(batch(config, step), &group).unwrap();
    }
    trainer.settle(&group).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    trainer.save(file.path()).unwrap();
    Checkpoint::read(file.path()).unwrap().weights.into_tensors().unwrap().into_iter().collect()
}

#[test]
fn fixed_tensors_give_the_same_bits() {
    let cases: [&[(&str, &str)]; 4] = [
        &[],
        &[("precision", "bf16")],
        &[("gating", "noisy-prior")],
        &[("gating", "none"), ("weighting", "uw"), ("clusters", "4")],
    ];
    for flags in cases {
        let config = config(flags);
        let (usual, fixed) = (trained(&config, false), trained(&config, true));
        for ((name, a), (other, b)) in usual.iter().zip(&fixed) {
            assert_eq!(name, other);
            assert!(a.equal(b), "{flags:?}: {name} differs");
        }
        assert_eq!(usual.len(), fixed.len());
    }
}

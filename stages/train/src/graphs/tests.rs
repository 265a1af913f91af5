//! A pass over fixed tensors against the usual one, bit by bit: what a graph repeats is the former.

use super::*;
use crate::trainer::Trainer;
use crate::{Args, Objective, Recipe, Team, recipe as recipes};
use models::checkpoint::{Checkpoint, LatentSpace};
use stage::{Arguments, Values};
use tch::Device;
use torch::random;

const IMAGES: i64 = 8;

fn recipe(flags: &[(&str, &str)]) -> Recipe {
    let standard = [("latents", "-"), ("checkpoints", "-"), ("log", "-"), ("model", "switch-dit-tiny/2")];
    let given = standard.iter().chain([&("batch-size", "8")]).chain(flags).copied();
    let args = Args::from_values(&Values::new(&Args::spec(), given).unwrap()).unwrap();
    let network = recipes::network(&args, 4, 4, 3).unwrap();
    Recipe {
        objective: Objective::new(&args, &network).unwrap(),
        network,
        schedule: args.schedule,
        latents: LatentSpace { scale: 1.0, vae: String::new() },
        rows: 64,
        batch_size: args.batch_size,
        learning_rate: 1e-3,
        weight_decay: args.weight_decay,
        ema_decay: args.ema_decay.clone(),
        warm_up: 2,
        clip: 1.0,
        accumulate: 1,
        precision: args.precision,
        experts_by: args.experts_by,
        seed: 5,
        initialize: None,
    }
}

fn draws(recipe: &Recipe, step: u64) -> Draws {
    let config = &recipe.network;
    let pictures = [IMAGES, config.channels, config.side, config.side];
    Draws {
        latents: random::normal(1, "latents", step, &pictures),
        labels: random::integers(1, "labels", step, config.classes, &[IMAGES]),
        noise: random::normal(1, "noise", step, &pictures),
        timesteps: recipe.objective.timesteps(1, step, IMAGES),
        label_dropout: random::uniform(1, "label-dropout", step, &[IMAGES]),
        gates: Some(random::normal(1, "gates", step, &[IMAGES, config.blocks, config.experts])),
    }
}

/// The checkpoint after four steps, whose passes are those of `fixed` where it is true.
fn trained(recipe: &Recipe, fixed: bool) -> Vec<(String, Tensor)> {
    let team = Team::default();
    let mut trainer = Trainer::fresh(recipe.clone(), Device::Cpu, &team).unwrap();
    if fixed {
        trainer.graphs = Some(Graphs::new(None));
    }
    for step in 0..4 {
        trainer.advance(draws(recipe, step), &team).unwrap();
    }
    trainer.settle(&team).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    trainer.save(file.path()).unwrap();
    Checkpoint::read(file.path()).unwrap().weights.into_tensors().unwrap().into_iter().collect()
}

#[test]
fn fixed_tensors_give_the_same_bits() {
    let cases: [&[(&str, &str)]; 5] = [
        &[],
        &[("precision", "bf16")],
        &[("experts-by", "routed"), ("precision", "bf16")],
        &[("gating", "noisy-prior")],
        &[("gating", "none"), ("weighting", "uw"), ("clusters", "4")],
    ];
    for flags in cases {
        let recipe = recipe(flags);
        let (usual, fixed) = (trained(&recipe, false), trained(&recipe, true));
        for ((name, a), (other, b)) in usual.iter().zip(&fixed) {
            assert_eq!(name, other);
            assert!(a.equal(b), "{flags:?}: {name} differs");
        }
        assert_eq!(usual.len(), fixed.len());
    }
}

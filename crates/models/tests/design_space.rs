//! The variants of Table 1 and Table 4, each against its plain formula.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use models::config::{Allocation, Draws, Form, Integration};
use models::{Config, Network};
use stage::Choice;
use tch::{Device, Kind, Tensor};
use torch::random::normal;

fn tiny() -> Config {
    Config::preset("switch-dit-tiny/2", 8, 10).unwrap()
}

/// A network whose every parameter is random, so that nothing is trivially 0.
fn network(config: &Config) -> Network {
    let network = Network::fresh(config, 0, Device::Cpu).unwrap();
    for parameter in network.parameters().iter().filter(|p| p.trained) {
        tch::no_grad(|| {
            let noise = normal(1, &parameter.name, 0, &parameter.tensor.size()) * 0.2;
            parameter.tensor.shallow_clone().copy_(&noise);
        });
    }
    network
}

struct Input {
    x: Tensor,
    t: Tensor,
    y: Tensor,
}

fn input() -> Input {
    Input {
        x: normal(2, "x", 0, &[3, 4, 8, 8]),
        t: Tensor::from_slice(&[3i64, 500, 990]),
        y: Tensor::from_slice(&[1i64, 10, 4]),
    }
}

fn off(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn the_mixture_is_the_sum_of_its_experts() {
    let config = tiny();
    let (network, input) = (network(&config), input());
    let seen = network.trace(&input.x, &input.t, &input.y);
    let kept = network.timesteps(&input.t).gates.unwrap().kept();
    let parameter = |name: &str| {
        let found = network.parameters().iter().find(|p| p.name == name).unwrap();
        found.tensor.shallow_clone()
    };
    let (w, b) = (parameter("routers.0.experts.w"), parameter("routers.0.experts.b"));
    let z = &seen["tokens_in"];
    let mut m = z.ones_like();
    for j in 0..config.experts {
        let gate = kept.select(1, 0).select(1, j).view([-1, 1, 1]);
        m += gate * (z.matmul(&w.get(j)) + b.get(j));
    }
    let worst = off(&m, &seen["router0_m"]);
    assert!(worst < 1e-4, "off by {worst}");
}

#[test]
fn integrations_differ_as_they_should() {
    let input = input();
    let out = |integration: Integration| {
        let config = Config { integration, ..tiny() };
        network(&config).forward(&input.x, &input.t, &input.y)
    };
    let all: Vec<Tensor> = Integration::ALL.iter().map(|(_, i)| out(*i)).collect();
    for (i, a) in all.iter().enumerate() {
        assert!(a.isfinite().all().int64_value(&[]) == 1);
        assert!(all[..i].iter().all(|b| off(a, b) > 1e-3));
    }
    // A mixture that is 1 everywhere masks nothing, with the skip or without.
    let plain = |integration: Integration, bias: f64| {
        let config = Config { integration, ..tiny() };
        let network = network(&config);
        for p in network.parameters() {
            tch::no_grad(|| {
                let mut tensor = p.tensor.shallow_clone();
                match p.name.rsplit_once(".experts.") {
                    Some((_, "w")) => drop(tensor.zero_()),
                    // The two kept gates do not sum to 1, so only 0 is the same for all.
                    Some(_) => drop(tensor.fill_(bias)),
                    None => {}
                }
            });
        }
        network.forward(&input.x, &input.t, &input.y)
    };
    let dit = {
        let config = Config { architecture: models::config::Architecture::Dit, ..tiny() };
        network(&config).forward(&input.x, &input.t, &input.y)
    };
    assert!(off(&plain(Integration::MaskSkipOne, 0.0), &dit) < 1e-6);
    // With m = 0 the skip brings all of z around the branches.
    assert!(off(&plain(Integration::Mask, 0.0), &plain(Integration::Replace, 0.0)) < 1e-6);
    assert!(off(&plain(Integration::MaskSkip, 0.0), &plain(Integration::Mask, 0.0)) > 1e-3);
}

#[test]
fn noise_moves_noisy_gates_only() {
    let input = input();
    for (allocation, moves) in [(Allocation::Gate, false), (Allocation::NoisyGate, true)] {
        let config = Config { allocation, ..tiny() };
        let network = network(&config);
        let noise = normal(3, "noise", 0, &[3, config.blocks, config.experts]);
        let quiet = network.timesteps(&input.t).gates.unwrap();
        let noisy = network.noisy_timesteps(&input.t, Some(&noise)).gates.unwrap();
        assert_eq!(off(&quiet.probabilities, &noisy.probabilities) > 1e-4, moves);
    }
}

#[test]
fn a_random_allocation_is_fixed() {
    let config = Config { allocation: Allocation::Random, ..tiny() };
    let network = network(&config);
    let chosen = network.all_timesteps().gates.unwrap().chosen; // [T, L, 3]
    assert_eq!(chosen.select(2, 0).sum(Kind::Float).double_value(&[]), 1000.0 * config.blocks as f64);
    assert!(off(&(chosen.select(2, 1) + chosen.select(2, 2)), &chosen.select(2, 0)) == 0.0);
    // Without replacement every one of the prior's first columns is there once: blocks differ from it in their order alone.
    let draws = Draws::Independent;
    let columns = |config: &Config| {
        let chosen = self::network(config).all_timesteps().gates.unwrap().chosen.select(2, 1); // [T, L]
        let mut ones = Vec::<f64>::try_from(chosen.sum_dim_intlist([0i64].as_slice(), false, Kind::Double));
        ones.as_mut().unwrap().sort_by(f64::total_cmp);
        ones.unwrap()
    };
    for seed in 0..4 {
        let config = Config { blocks: 6, allocation_draws: draws, allocation_seed: seed, ..config.clone() };
        let prior = Network::fresh(&config, 0, Device::Cpu).unwrap().buffers()["prior._unit_mapping"].copy();
        let wanted = prior.narrow(1, 0, 6).sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
        let mut wanted = Vec::<f64>::try_from(wanted).unwrap();
        wanted.sort_by(f64::total_cmp);
        assert_eq!(columns(&config), wanted);
    }
    let other = Config { experts: 4, ..config };
    assert_eq!(stage::exit_code(&other.check().unwrap_err()), 2);
}

#[test]
fn the_paper_s_relations_differ_where_they_move() {
    let map = |relations: Form| {
        let config = Config { relations, ..tiny() };
        Network::fresh(&config, 0, Device::Cpu).unwrap().buffers()["prior._unit_mapping"].copy()
    };
    let rows = (map(Form::Reference) - map(Form::Paper)).abs().sum_dim_intlist(
        [1i64].as_slice(),
        false,
        Kind::Float,
    );
    let config = tiny();
    let moves = config.blocks * (config.experts - config.top_k);
    assert_eq!(rows.sum(Kind::Float).double_value(&[]), moves as f64);
    assert_eq!(rows.max().double_value(&[]), 1.0);
}

#[test]
fn random_routing_keeps_as_many_channels_everywhere() {
    let preset = Config::preset("dtr-tiny/2", 8, 10).unwrap();
    let config = Config { allocation: Allocation::Random, allocation_seed: 3, ..preset.clone() };
    let masks = |config: &Config| {
        let buffers = Network::fresh(config, 0, Device::Cpu).unwrap().buffers();
        buffers["routers.0._unit_mapping"].shallow_clone()
    };
    let (random, windows) = (masks(&config), masks(&preset));
    let kept = (config.beta * config.width as f64).floor();
    assert_eq!(random.sum_dim_intlist([1i64].as_slice(), false, Kind::Double).min().double_value(&[]), kept);
    assert_eq!(random.sum(Kind::Double), windows.sum(Kind::Double));
    assert!(random != windows && random.get(0) != random.get(1));
    assert_eq!(random, masks(&config));
    assert!(random != masks(&Config { allocation_seed: 4, ..config.clone() }));

    // Each block has draws of its own, as many channels in each, and an evaluation takes the block's.
    let config = Config { allocation_draws: Draws::Independent, ..config };
    let network = network(&config);
    let buffers = network.buffers();
    let block = |i: usize| &buffers[&format!("routers.{i}._unit_mapping")];
    let [first, second] = [0, 1].map(block);
    assert_eq!(*first, random);
    let same = first.eq_tensor(second).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
    // Of two independent draws of 25 of 32 channels as many agree: p² + (1 − p)².
    let p = kept / config.width as f64;
    assert!((same - (p * p + (1.0 - p) * (1.0 - p))).abs() < 0.01, "{same}");
    let counts = second.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    assert_eq!((counts.min().double_value(&[]), counts.max().double_value(&[])), (kept, kept));
    let Input { x, t, y } = input();
    let shared = Config { allocation_draws: Draws::Shared, ..config };
    let (own, other) = (network.trace(&x, &t, &y), self::network(&shared).trace(&x, &t, &y));
    assert_eq!(own["block0_out"], other["block0_out"]);
    assert!(off(&own["block1_out"], &other["block1_out"]) > 1e-3);
}

/// Also that a network which knows nothing but its final bias gives that at each place of every patch.
#[test]
fn every_side_and_patch_gives_back_its_size() {
    for (side, patch) in [(8, 1), (12, 2), (32, 8), (64, 2), (64, 4), (64, 8)] {
        for (family, classes) in [("switch-dit", 1), ("switch-dit", 10), ("dtr", 1), ("dit", 10)] {
            let config = Config::preset(&format!("{family}-tiny/{patch}"), side, classes).unwrap();
            let network = network(&config);
            let t = Tensor::from_slice(&[3i64, 990]);
            let y = Tensor::from_slice(&[0i64, classes - 1]);
            let out = network.forward(&normal(2, "x", 0, &[2, 4, side, side]), &t, &y);
            let what = format!("{family}, {classes} classes, side {side}, patch {patch}");
            assert_eq!(out.size(), [2, 8, side, side], "{what}");
            assert_eq!(out.isfinite().all().int64_value(&[]), 1, "{what}");
            for p in network.parameters().iter().filter(|p| p.name == "final_layer.linear.weight") {
                drop(tch::no_grad(|| p.tensor.shallow_clone().zero_()));
            }
            let flat = network.forward(&normal(2, "x", 0, &[2, 4, side, side]), &t, &y);
            let bias = network.parameters().iter().find(|p| p.name == "final_layer.linear.bias").unwrap();
            // Row in the patch, column in the patch, channel.
            let want = bias.tensor.view([patch, patch, 8]).permute([2, 0, 1]);
            let tiles = side / patch;
            assert_eq!(flat.get(1), want.repeat([1, tiles, tiles]), "{what}");
        }
    }
}

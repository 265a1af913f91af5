//! Mixed precision against f32, forwards and backwards.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use models::{Config, Network};
use tch::{Device, Kind, Tensor, no_grad};
use torch::{Precision, random};

/// Relative Frobenius distance that bfloat16's 8 bits of mantissa allow over a few blocks; measured 4.2e-3.
const BF16: f64 = 2e-2;

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.detach().to_kind(Kind::Double), b.detach().to_kind(Kind::Double));
    ((&a - &b).norm() / b.norm()).double_value(&[])
}

/// A network without a zero left: fresh ones give 0 at every gate.
fn network(model: &str, trained: bool) -> Network {
    let mut config = Config::preset(model, 8, 10).unwrap();
    config.experts = 4;
    let network = Network::fresh(&config, 3, Device::Cpu).unwrap();
    for (i, p) in network.parameters().iter().enumerate() {
        let noise = random::normal(5, &p.name, i as u64, &p.tensor.size()) * 0.05;
        let _ = no_grad(|| p.tensor.shallow_clone().g_add_(&noise));
        if !trained {
            let _ = p.tensor.set_requires_grad(false);
        }
    }
    network
}

fn inputs() -> (Tensor, Tensor, Tensor) {
    (
        random::normal(1, "x", 0, &[6, 4, 8, 8]),
        random::integers(1, "t", 0, 1000, &[6]),
        random::integers(1, "y", 0, 10, &[6]),
    )
}

#[test]
fn bf16_stays_near_f32_with_its_gradients() {
    for model in ["switch-dit-digits", "dtr-digits", "dit-digits"] {
        let network = network(model, true);
        let (x, t, y) = inputs();
        let run = |precision: Precision| {
            for p in network.parameters() {
                p.tensor.shallow_clone().zero_grad();
            }
            let timesteps = network.timesteps(&t);
            let out = precision.run(Device::Cpu, || network.forward_at(&x, &timesteps, &y)).unwrap();
            assert_eq!(out.kind(), Kind::Float);
            out.square().mean(Kind::Float).backward();
            let gradients = network
                .parameters()
                .iter()
                .filter(|p| p.trained)
                .map(|p| p.tensor.grad().copy().flatten(0, -1));
            (out.detach(), gradients.collect::<Vec<_>>(), timesteps.gates.map(|g| g.chosen))
        };
        let (exact, gradients, chosen) = run(Precision::F32);
        let (near, half_gradients, half_chosen) = run(Precision::Bf16);
        assert_eq!(chosen, half_chosen, "{model}: gates are f32");
        let (d, g) = (
            distance(&near, &exact),
            distance(&Tensor::cat(&half_gradients, 0), &Tensor::cat(&gradients, 0)),
        );
        println!("{model}: output {d:.1e}, gradient {g:.1e}");
        assert!(d > 0.0 && d < BF16, "{model}: output {d}");
        assert!(g < BF16, "{model}: gradient {g}");
        assert!(half_gradients.iter().all(|g| g.kind() == Kind::Float));
    }
}

#[test]
fn weights_cast_once_give_what_weights_cast_each_time_give() {
    let _guard = tch::no_grad_guard();
    let (x, _, y) = inputs();
    let network = network("switch-dit-digits", false);
    let timesteps = network.timesteps(&Tensor::from_slice(&[300i64]));
    let guided = || Precision::Bf16.run(Device::Cpu, || network.guided(&x, &timesteps, &y, 1.5)).unwrap();
    let exact = network.guided(&x, &timesteps, &y, 1.5);
    let each_time = guided();
    network.store_products(Kind::BFloat16);
    let once = guided();
    assert_eq!(once.kind(), Kind::Float);
    assert!(distance(&once, &each_time) < 1e-6, "{}", distance(&once, &each_time));
    assert!(distance(&once, &exact) < BF16, "{}", distance(&once, &exact));
}

//! Every variant of the network: outputs, what lies between, gradients, the prior loss.

use super::support::*;
use models::Network;
use models::assignment::{assign, total};
use models::prior::Prior;
use models::timestep::sinusoid;
use tch::{Kind, Tensor};
use weights::Weights;

/// Outputs are of size 1; the reference's own f32 against f64 is 3e-6.
const OUTPUT: f64 = 2e-5;
/// Of a gradient's norm; the reference's own f32 against f64 is 1.2e-6.
const GRADIENT: f64 = 1e-5;

fn each(check: impl Fn(&str, Network, Weights)) {
    for variant in variants() {
        check(&variant, network(&variant), tensors(&format!("model_{variant}.io")));
    }
}

#[test]
fn outputs() {
    each(|variant, network, io| {
        let out = network.forward(get(&io, "x"), get(&io, "t"), get(&io, "y"));
        near(&format!("{variant} eval"), &out, get(&io, "eval.out"), OUTPUT);
        let out = network.forward(get(&io, "train.x"), get(&io, "train.t"), get(&io, "train.y"));
        near(&format!("{variant} train"), &out, get(&io, "train.out"), OUTPUT);
        if let (Some(x), Some(want)) = (io.get("cfg.x").unwrap(), io.get("cfg.out").unwrap()) {
            let scale = json(&format!("model_{variant}"))["cfg_scale"].as_f64().unwrap();
            let out = network.forward_with_cfg(x, get(&io, "cfg.t"), get(&io, "cfg.y"), scale);
            near(&format!("{variant} guided"), &out, want, OUTPUT);
        }
    });
}

#[test]
fn what_lies_between() {
    each(|variant, network, io| {
        let t = get(&io, "t");
        near_sinusoid(&format!("{variant} sinusoid"), &sinusoid(t, 256), get(&io, "eval.t_freq"), t);
        let mut seen = network.trace(get(&io, "x"), t, get(&io, "y"));
        let names: Vec<String> =
            io.names().filter_map(|n| n.strip_prefix("eval.")).map(String::from).collect();
        for name in names.iter().filter(|n| *n != "out" && *n != "t_freq") {
            let ours = seen.remove(name).unwrap_or_else(|| panic!("{variant}: nothing called {name}"));
            near(&format!("{variant} {name}"), &ours, get(&io, &format!("eval.{name}")), OUTPUT);
        }
        assert!(seen.is_empty(), "{variant}: not recorded: {:?}", seen.keys());
        if let Some(mask) = io.get("dtr.mask").unwrap() {
            let map = &network.buffers()["routers.0._unit_mapping"];
            near(&format!("{variant} mask"), &map.index_select(0, t), mask, 0.0);
        }
    });
}

#[test]
fn one_row_of_timesteps_serves_all_images() {
    each(|variant, network, io| {
        let (x, y) = (get(&io, "x"), get(&io, "y"));
        let t = get(&io, "t").narrow(0, 0, 1);
        let want = network.forward(x, &t.expand([x.size()[0]], false).contiguous(), y);
        let ours = network.forward_at(x, &network.timesteps(&t), y);
        near(&format!("{variant} one row"), &ours, &want, OUTPUT);
        if network.config().conditional() {
            let labels = Tensor::cat(&[y, &y.full_like(network.config().null_label())], 0);
            let both = Tensor::cat(&[x, x], 0);
            let t2 = t.expand([both.size()[0]], false).contiguous();
            let want = network.forward_with_cfg(&both, &t2, &labels, 1.5).narrow(0, 0, x.size()[0]);
            let ours = network.guided(x, &network.timesteps(&t), y, 1.5);
            near(&format!("{variant} guided, one row"), &ours, &want, OUTPUT);
        }
    });
}

#[test]
fn gates_of_all_timesteps() {
    each(|variant, network, io| {
        let Some(gates) = network.all_timesteps().gates else { return };
        let probabilities = gates.probabilities.flatten(1, 2);
        near(&format!("{variant} gates"), &probabilities, get(&io, "gate.probs_all_t"), OUTPUT);
        near(&format!("{variant} chosen"), &gates.chosen.flatten(1, 2), get(&io, "gate.topk_map_all_t"), 0.0);
    });
}

#[test]
fn matching() {
    each(|variant, network, io| {
        let Some(prior) = network.prior() else { return };
        let meta = json(&format!("model_{variant}"));
        let all = network.all_timesteps();
        let cost = prior.cost(&all.gates.as_ref().unwrap().chosen);
        near(&format!("{variant} cost"), &cost, get(&io, "prior.C"), 0.0);
        let size = cost.size()[0] as usize;
        let flat: Vec<i64> = Vec::try_from(cost.flatten(0, -1).to_kind(Kind::Int64)).unwrap();
        let optimum = meta["prior"]["optimal_cost"].as_f64().unwrap() as i64;
        assert_eq!(total(&flat, &assign(&flat, size)), optimum, "{variant}");

        let t = get(&io, "train.t");
        let timesteps = network.timesteps(t);
        let low = meta["prior"]["aux_min_over_optimal_assignments"].as_f64().unwrap();
        let high = meta["prior"]["aux_max_over_optimal_assignments"].as_f64().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for step in 0..200 {
            let matching = Prior::matching(&cost, 0, step);
            let columns: Vec<i64> = Vec::try_from(&matching).unwrap();
            let columns: Vec<usize> = columns.iter().map(|&c| c as usize).collect();
            assert_eq!(total(&flat, &columns), optimum, "{variant}, step {step}");
            let loss = prior.loss(timesteps.gates.as_ref().unwrap(), t, &matching).double_value(&[]);
            assert!(loss >= low - 1e-6 && loss <= high + 1e-6, "{variant}: {loss} outside {low} to {high}");
            seen.insert(columns);
        }
        // A cost matrix may have one optimum only; where the reference's permutations found several losses, it has not.
        let several = meta["prior"]["aux_20_distinct_values_1e-6"].as_u64().is_none_or(|n| n > 1);
        assert!(seen.len() > 1 || !several, "{variant}: ties always fall alike");
    });
}

#[test]
fn gradients() {
    each(|variant, network, io| {
        let meta = json(&format!("model_{variant}"));
        let x = get(&io, "train.x").copy().set_requires_grad(true);
        let (t, y) = (get(&io, "train.t"), get(&io, "train.y"));
        let timesteps = network.timesteps(t);
        let out = network.forward_at(&x, &timesteps, y);
        let square = out.square().mean(Kind::Float);
        close(
            "mean of squares",
            square.double_value(&[]),
            meta["train"]["mean_out_sq"].as_f64().unwrap(),
            1e-5,
        );
        let aux = match (network.prior(), &timesteps.gates) {
            (Some(prior), Some(gates)) => prior.loss(gates, t, get(&io, "prior.assignment")),
            _ => square.zeros_like(),
        };
        let recorded = meta["train"]["aux"].as_f64().unwrap();
        assert!((aux.double_value(&[]) - recorded).abs() <= 1e-5 * recorded.max(1e-9), "{variant} aux");
        (square + &aux).backward();
        near_relative(&format!("{variant} input"), &x.grad(), get(&io, "grad_input.x"), GRADIENT);
        let norms = &meta["train"]["grad_l2_norm_all_params"];
        for parameter in network.parameters().iter().filter(|p| p.trained) {
            let what = format!("{variant} {}", parameter.name);
            let gradient = parameter.tensor.grad();
            let norm = norms[&parameter.name].as_f64().unwrap();
            let ours = gradient.norm().double_value(&[]);
            assert!((ours - norm).abs() <= GRADIENT * norm.max(1e-9), "{what}: norm {ours} and {norm}");
            if let Some(want) = io.get(&format!("grad.{}", parameter.name)).unwrap() {
                near_relative(&what, &gradient, want, GRADIENT);
            }
        }
    });
}

#[test]
fn prior_loss_reaches_gates_and_timesteps_only() {
    each(|variant, network, io| {
        let Some(prior) = network.prior() else { return };
        let t = get(&io, "train.t");
        let timesteps = network.timesteps(t);
        let out = network.forward_at(get(&io, "train.x"), &timesteps, get(&io, "train.y"));
        let aux = prior.loss(timesteps.gates.as_ref().unwrap(), t, get(&io, "prior.assignment"));
        (out.sum(Kind::Float) * 0.0 + aux).backward();
        let mut compared = 0;
        for parameter in network.parameters().iter().filter(|p| p.trained) {
            let what = format!("{variant} {}", parameter.name);
            let gradient = parameter.tensor.grad();
            let reached = gradient.abs().max().double_value(&[]) != 0.0;
            let wanted = parameter.name.contains("f_gate") || parameter.name.starts_with("t_embedder");
            assert_eq!(reached, wanted, "{what}");
            if let Some(want) = io.get(&format!("grad_aux.{}", parameter.name)).unwrap() {
                near_relative(&what, &gradient, want, GRADIENT);
                compared += 1;
            }
        }
        assert!(compared > 0, "{variant}: no recorded gradient of the prior loss");
    });
}

#[test]
fn wrong_weights_are_refused_by_name() {
    let variant = &variants()[0];
    let config = config(&json(&format!("model_{variant}")));
    let all = || tensors(&format!("model_{variant}")).into_tensors().unwrap();
    let refuse = |tensors, text: &str| {
        let weights = Weights::new("file", tensors);
        let error = Network::load(&config, weights, false, tch::Device::Cpu).err().expect("refused");
        assert_eq!(stage::exit_code(&error), 2);
        assert!(error.to_string().contains(text), "{error}");
    };
    let mut missing = all();
    missing.remove("blocks.0.attn.qkv.bias");
    refuse(missing, "no tensor blocks.0.attn.qkv.bias");
    let mut surplus = all();
    surplus.insert("blocks.9.x".into(), Tensor::from(0f32));
    refuse(surplus, "surplus tensors blocks.9.x");
    let mut wrong = all();
    wrong.insert("final_layer.linear.bias".into(), Tensor::from_slice(&[0f32]));
    refuse(wrong, "tensor final_layer.linear.bias has shape [1]");
}

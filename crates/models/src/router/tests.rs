//! Merged experts against the formula, expert by expert.

use super::*;
use tch::Device;
use torch::random::normal;
use torch::shim::autocast;

const IMAGES: i64 = 6;
const BLOCKS: i64 = 3;
const EXPERTS: i64 = 5;
const WIDTH: i64 = 32;

struct Case {
    router: Router,
    z: Tensor,
    /// `[B, L, E]`.
    gates: Tensor,
}

fn leaf(name: &str, shape: &[i64], scale: f64) -> Tensor {
    (normal(1, name, 0, shape) * scale).set_requires_grad(true)
}

impl Case {
    fn new(top_k: i64) -> Self {
        let router = Router {
            gate: Linear { weight: leaf("gate", &[EXPERTS, WIDTH], 1.0), bias: leaf("b", &[EXPERTS], 1.0) },
            noise: None,
            weight: leaf("w", &[EXPERTS, WIDTH, WIDTH], 0.2),
            bias: leaf("bias", &[EXPERTS, WIDTH], 0.2),
        };
        let probabilities = normal(1, "gates", 0, &[IMAGES, BLOCKS, EXPERTS]).softmax(-1, Kind::Float);
        // Nobody keeps the last expert.
        let _ = probabilities.narrow(2, EXPERTS - 1, 1).zero_();
        let (_, best) = probabilities.topk(top_k, -1, true, true);
        let chosen = probabilities.zeros_like().scatter_value(-1, &best, 1.0);
        let gates = (probabilities * chosen).set_requires_grad(true);
        Self { router, z: leaf("z", &[IMAGES, 4, WIDTH], 1.0), gates }
    }

    /// `Σ_j g_j (z W_j + b_j)` of a block, all experts one after the other.
    fn plain(&self, block: i64) -> Tensor {
        let gates = self.gates.select(1, block);
        let expert = |j: i64| {
            let gate = gates.select(1, j).view([-1, 1, 1]);
            (self.z.matmul(&self.router.weight.get(j)) + self.router.bias.get(j)) * gate
        };
        (0..EXPERTS).map(expert).reduce(|a, b| a + b).unwrap()
    }

    /// The mixture and its gradients: of the tokens, gates, weights and biases.
    fn all(&self, mixture: &Tensor) -> Vec<Tensor> {
        let mixture = mixture.to_kind(Kind::Float);
        let loss = (&mixture * normal(1, "direction", 0, &mixture.size())).sum(Kind::Float);
        let of = [&self.z, &self.gates, &self.router.weight, &self.router.bias];
        let mut all = Tensor::run_backward(&[loss], &of, true, false);
        all.push(mixture.detach());
        all
    }
}

fn worst(a: &[Tensor], b: &[Tensor]) -> f64 {
    let distance = |(a, b): (&Tensor, &Tensor)| ((a - b).norm() / b.norm()).double_value(&[]);
    a.iter().zip(b).map(distance).fold(0.0, |worst, d| if d < worst { worst } else { d })
}

/// Sums of 32 products, in another order.
const F32: f64 = 1e-5;
/// The same in bfloat16.
const BF16: f64 = 2e-2;

#[test]
fn merged_is_the_formula() {
    for top_k in [1, 2, 4] {
        let case = Case::new(top_k);
        for block in 0..BLOCKS {
            let gates = case.gates.select(1, block);
            let merged = || case.router.forward(&case.z, &gates).sum();
            let plain = case.all(&case.plain(block));
            let distance = worst(&case.all(&merged()), &plain);
            assert!(distance < F32, "{top_k} {block}: {distance}");
            let half = autocast(Device::Cpu, Kind::BFloat16, || Ok(merged())).unwrap();
            let distance = worst(&case.all(&half), &plain);
            assert!(distance < BF16, "{top_k} {block}: bf16 {distance}");
        }
    }
}

//! The diffusion prior loss: gates are pulled towards a map in which near timesteps share experts.

use crate::assignment::assign;
use crate::relations::Relations;
use crate::router::Gates;
use rng::Stream;
use tch::{Device, Kind, Tensor};

/// Inside every logarithm of the divergence (reference behaviour).
const EPSILON: f64 = 1e-6;

/// The prior map, and the loss against it.
pub struct Prior {
    /// `[T, L·E]`, f32, columns block by block.
    pub map: Tensor,
    blocks: i64,
}

impl Prior {
    /// A prior with this map for so many blocks.
    pub fn new(relations: &Relations, blocks: i64, device: Device) -> Self {
        Self { map: relations.map(device), blocks }
    }

    /// `C[i, j]`: timesteps at which gate column `i` and prior column `j` differ; whole numbers.
    ///
    /// # Shapes
    /// `chosen` `[T, L, E]` for all timesteps, to `[L·E, L·E]` f32.
    pub fn cost(&self, chosen: &Tensor) -> Tensor {
        self.cost_from(chosen, 0)
    }

    /// The same over consecutive timesteps; those of parts add up to that of all, exactly.
    ///
    /// # Shapes
    /// `chosen` for the timesteps from `first` on, to `[L·E, L·E]` f32.
    pub fn cost_from(&self, chosen: &Tensor, first: i64) -> Tensor {
        let chosen = chosen.flatten(1, 2); // [T, L·E]
        let map = self.map.narrow(0, first, chosen.size()[0]);
        let sum = |x: &Tensor| x.sum_dim_intlist([0i64].as_slice(), false, Kind::Float);
        let both = chosen.transpose(0, 1).matmul(&map);
        sum(&chosen).unsqueeze(1) + sum(&map).unsqueeze(0) - both * 2.0
    }

    /// The prior column of every gate column, at least total cost (Eqs. 8 and 9). Both sides are shuffled first by
    /// (seed, step), so that ties fall differently at every step, as in the reference.
    ///
    /// # Shapes
    /// `cost` `[L·E, L·E]`, to `[L·E]` i64 on the CPU.
    pub fn matching(cost: &Tensor, seed: u64, step: u64) -> Tensor {
        let size = cost.size()[0] as usize;
        let values: Vec<f32> = Vec::try_from(cost.to_device(Device::Cpu).flatten(0, -1)).unwrap_or_default();
        let rows = Stream::new(seed, "matching/gates", step).permutation(size as u32);
        let columns = Stream::new(seed, "matching/prior", step).permutation(size as u32);
        let shuffled: Vec<i64> = rows
            .iter()
            .flat_map(|r| columns.iter().map(move |c| (r, c)))
            .map(|(&r, &c)| values[r as usize * size + c as usize] as i64)
            .collect();
        let mut matched = vec![0i64; size];
        for (row, column) in assign(&shuffled, size).into_iter().enumerate() {
            matched[rows[row] as usize] = i64::from(columns[column]);
        }
        Tensor::from_slice(&matched)
    }

    /// Mean over the batch of the Jensen-Shannon divergence between gates and matched prior rows (Eq. 10), in nats.
    /// The gradient reaches the gates and, through them, the timestep embedding only.
    ///
    /// # Shapes
    /// `gates` of the batch `[B, L, E]`, `t` `[B]`, `matching` `[L·E]`, to a scalar.
    pub fn loss(&self, gates: &Gates, t: &Tensor, matching: &Tensor) -> Tensor {
        let rows = self.map.index_select(0, t).index_select(1, matching); // [B, L·E]
        let ones = rows.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
        let p = gates.probabilities.flatten(1, 2) / self.blocks as f64;
        let q = rows / ones;
        let log = |x: &Tensor| (x + EPSILON).log();
        let middle = log(&((&p + &q) * 0.5));
        let terms = &p * (log(&p) - &middle) + &q * (log(&q) - &middle);
        terms.sum_dim_intlist([1i64].as_slice(), false, Kind::Float).mean(Kind::Float) * 0.5
    }
}

/// How unevenly a batch uses the experts of its blocks: `E Σ p̄ f̄` of Switch Transformers, 1 at least, mean over blocks; `p̄`
/// the mean probability, `f̄` the share of the choices.
///
/// # Shapes
/// `gates` `[B, L, E]`, to a scalar.
pub fn load_balance(gates: &Gates) -> Tensor {
    let experts = gates.probabilities.size()[2] as f64;
    let mean = |x: &Tensor| x.mean_dim([0i64].as_slice(), false, Kind::Float); // [L, E]
    let used = mean(&gates.chosen);
    let share = &used / used.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
    (mean(&gates.probabilities) * share).sum(Kind::Float) * (experts / gates.probabilities.size()[1] as f64)
}

/// Mean of the squared log-sum-exp of the gates' logits (z-loss of ST-MoE).
///
/// # Shapes
/// `gates` `[B, L, E]`, to a scalar.
pub fn z_loss(gates: &Gates) -> Tensor {
    gates.logits.logsumexp([-1i64].as_slice(), false).square().mean(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_of_parts_add_up() {
        let relations = Relations::prior(2, 3, 2, 4.0, 1000);
        let prior = Prior::new(&relations, 2, Device::Cpu);
        let draws = torch::random::integers(1, "chosen", 0, 2, &[1000, 2, 3]);
        let chosen = draws.to_kind(Kind::Float);
        let parts = [(0, 333), (333, 334), (667, 333)];
        let costs = parts.map(|(first, length)| prior.cost_from(&chosen.narrow(0, first, length), first));
        assert_eq!(costs.iter().sum::<Tensor>(), prior.cost(&chosen));
    }

    #[test]
    fn even_use_is_least() {
        let gates = |logits: &[f32]| {
            let logits = Tensor::from_slice(logits).view([2, 1, 2]);
            let probabilities = logits.softmax(-1, Kind::Float);
            let chosen = probabilities.ge(0.5).to_kind(Kind::Float);
            Gates { logits, probabilities, chosen }
        };
        let even = load_balance(&gates(&[3.0, 0.0, 0.0, 3.0])).double_value(&[]);
        let uneven = load_balance(&gates(&[3.0, 0.0, 3.0, 0.0])).double_value(&[]);
        assert!((even - 1.0).abs() < 1e-6 && uneven > 1.8, "{even} {uneven}");
        let z = z_loss(&gates(&[0.0; 4])).double_value(&[]);
        assert!((z - 2f64.ln().powi(2)).abs() < 1e-6);
    }
}

//! Which timesteps are alike: the prior map over gates, and DTR's channel masks.

use crate::config::Draws;
use rng::Stream;
use tch::{Device, Kind, Tensor};
use torch::random;

/// A window of `ones` ones that moves from the first column to the last as `t` grows, ∝ (t/(T−1))^α.
#[derive(Clone, Debug, PartialEq)]
pub struct Relations {
    /// Columns of the map.
    pub columns: i64,
    /// First column of each row's ones, one row per timestep.
    pub start: Vec<i64>,
    /// One past the last.
    pub end: Vec<i64>,
}

impl Relations {
    /// The map of the reference code; `share` of the columns is one in each row.
    ///
    /// Eq. 7 as the code has it: `t` counts from 0, the number of ones is truncated, starts round half to even.
    pub fn reference(columns: i64, share: f64, alpha: f64, timesteps: i64) -> Self {
        let ones = (columns as f64 * share) as i64;
        let start: Vec<i64> = (0..timesteps)
            .map(|t| ((columns - ones) as f64 * power(t, timesteps - 1, alpha)).round_ties_even() as i64)
            .collect();
        let end = start.iter().map(|s| s + ones).collect();
        Self { columns, start, end }
    }

    /// Eq. 7 as the paper prints it: `t` counts from 1, and a row where the window moves holds both windows.
    pub fn paper(blocks: i64, experts: i64, top_k: i64, alpha: f64, timesteps: i64) -> Self {
        let free = (blocks * (experts - top_k)) as f64;
        let edge = |t: i64| (free * power(t, timesteps, alpha)).round_ties_even() as i64;
        let start = (1..=timesteps).map(|t| edge(t - 1)).collect();
        let end = (1..=timesteps).map(|t| edge(t) + blocks * top_k).collect();
        Self { columns: blocks * experts, start, end }
    }

    /// The map of a Switch-DiT: columns block by block, `K` of `E` ones.
    pub fn prior(blocks: i64, experts: i64, top_k: i64, alpha: f64, timesteps: i64) -> Self {
        Self::reference(blocks * experts, top_k as f64 / experts as f64, alpha, timesteps)
    }

    /// Experts given to timesteps without a gate (Table 4): in each block the first serves all, the second those of one of the
    /// first `blocks` columns drawn at random, the third the others.
    ///
    /// # Shapes
    /// `[T, blocks, 3]`, f32 on the CPU.
    pub fn random_allocation(&self, blocks: i64, seed: u64, draws: Draws) -> Tensor {
        let map = self.map(Device::Cpu);
        let columns = match draws {
            Draws::Shared => random::integers(seed, "allocation", 0, blocks, &[blocks]),
            Draws::Independent => {
                let order = Stream::new(seed, "allocation", 0).permutation(blocks as u32);
                Tensor::from_slice(&order.into_iter().map(i64::from).collect::<Vec<_>>())
            }
        };
        let second = map.index_select(1, &columns); // [T, blocks]
        Tensor::stack(&[&second.ones_like(), &second, &(1.0 - &second)], 2)
    }

    /// The same number of ones in every row, each in places drawn at random (Table 3's random routing); another draw for every block.
    ///
    /// # Shapes
    /// `[T, columns]`, f32 on the CPU.
    pub fn random_routing(&self, seed: u64, block: u64) -> Tensor {
        let ones = self.end.first().unwrap_or(&0) - self.start.first().unwrap_or(&0);
        let draws = random::uniform(seed, "routing", block, &[self.start.len() as i64, self.columns]);
        let (_, places) = draws.topk(ones, 1, true, false);
        draws.zeros_like().scatter_value(1, &places, 1.0)
    }

    /// As 0 and 1.
    ///
    /// # Shapes
    /// `[T, columns]`, f32.
    pub fn map(&self, device: Device) -> Tensor {
        let options = (Kind::Int64, Device::Cpu);
        let column = Tensor::arange(self.columns, options).unsqueeze(0);
        let start = Tensor::from_slice(&self.start).unsqueeze(1);
        let end = Tensor::from_slice(&self.end).unsqueeze(1);
        let inside = column.ge_tensor(&start).logical_and(&column.lt_tensor(&end));
        inside.to_kind(Kind::Float).to_device(device)
    }
}

fn power(t: i64, last: i64, alpha: f64) -> f64 {
    if last == 0 { 0.0 } else { (t as f64 / last as f64).powf(alpha) }
}

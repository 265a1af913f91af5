//! What the gates of a Switch-DiT have learned: which experts a timestep keeps, which timesteps share experts.

mod map;

pub use map::GatingMap;

use crate::network::Network;
use crate::prior::Prior;
use tch::{Kind, Tensor};

/// The gates of all blocks at all timesteps, beside the prior they are trained towards. Columns go block by block.
#[derive(Clone, Debug, PartialEq)]
pub struct Gating {
    /// Timesteps `T`.
    pub timesteps: usize,
    /// Blocks `L`.
    pub blocks: usize,
    /// Experts `E` of a block.
    pub experts: usize,
    /// Experts `K` that a timestep keeps in each block.
    pub top_k: usize,
    /// Softmax over the experts of each block, `[T, L·E]`.
    pub probabilities: Vec<f32>,
    /// Whether the timestep keeps the expert, `[T, L·E]`; the paper's gating map (Figs. 3 and 6).
    pub chosen: Vec<bool>,
    /// The prior map with its own columns, `[T, L·E]` (Eq. 7).
    pub prior: Vec<bool>,
    /// The prior column of every gate column, `[L·E]`: one of the optimal assignments (Eqs. 8 and 9).
    pub matching: Vec<usize>,
}

impl Gating {
    /// Reads the gates of a network; `None` when it has none. Between equally good assignments a fixed draw decides.
    pub fn of(network: &Network) -> Option<Self> {
        let _no_grad = tch::no_grad_guard();
        let gates = network.all_timesteps().gates?;
        let prior = network.prior()?;
        let (timesteps, blocks, experts) = gates.probabilities.size3().ok()?;
        let numbers = |x: &Tensor| Vec::<f32>::try_from(x.to_kind(Kind::Float).flatten(0, -1)).ok();
        let flags = |x: &Tensor| Some(numbers(x)?.into_iter().map(|v| v > 0.5).collect::<Vec<_>>());
        let matching = Prior::matching(&prior.cost(&gates.chosen), 0, 0);
        let matching = Vec::<i64>::try_from(matching).ok()?;
        Some(Self {
            timesteps: timesteps as usize,
            blocks: blocks as usize,
            experts: experts as usize,
            top_k: network.config().top_k as usize,
            probabilities: numbers(&gates.probabilities)?,
            chosen: flags(&gates.chosen)?,
            prior: flags(&prior.map)?,
            matching: matching.into_iter().map(|c| c as usize).collect(),
        })
    }

    /// Columns `L·E` of the maps.
    pub fn columns(&self) -> usize {
        self.blocks * self.experts
    }

    /// Whether timestep `t` keeps the expert of `column`.
    pub fn keeps(&self, t: usize, column: usize) -> bool {
        self.chosen[t * self.columns() + column]
    }

    /// Whether the prior column that is matched to gate column `column` is one at `t`.
    pub fn wanted(&self, t: usize, column: usize) -> bool {
        self.prior[t * self.columns() + self.matching[column]]
    }

    /// The total cost of the matching: cells of the map that differ from the matched prior.
    pub fn cost(&self) -> usize {
        let cells = (0..self.timesteps).flat_map(|t| (0..self.columns()).map(move |c| (t, c)));
        cells.filter(|&(t, c)| self.keeps(t, c) != self.wanted(t, c)).count()
    }

    /// Share of the cells in which the map and the matched prior agree, 0 to 1.
    pub fn agreement(&self) -> f64 {
        1.0 - self.cost() as f64 / self.chosen.len().max(1) as f64
    }

    /// For each block, the experts that timestep `t` keeps: its denoising path (Fig. C).
    pub fn path(&self, t: usize) -> Vec<Vec<usize>> {
        let kept = |block: usize| {
            (0..self.experts).filter(move |e| self.keeps(t, block * self.experts + e)).collect::<Vec<_>>()
        };
        (0..self.blocks).map(kept).collect()
    }

    /// For each column, whether every timestep keeps its expert.
    pub fn shared(&self) -> Vec<bool> {
        (0..self.columns()).map(|c| (0..self.timesteps).all(|t| self.keeps(t, c))).collect()
    }

    /// For each column, how many timesteps keep its expert.
    pub fn load(&self) -> Vec<usize> {
        (0..self.columns()).map(|c| (0..self.timesteps).filter(|&t| self.keeps(t, c)).count()).collect()
    }

    /// How many different paths there are.
    pub fn patterns(&self) -> usize {
        self.chosen.chunks(self.columns()).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Share of the kept experts that two timesteps have in common, `[T, T]`, 0 to 1 (task affinity).
    pub fn affinity(&self) -> Vec<f32> {
        let words = self.columns().div_ceil(64);
        let mut rows = vec![0u64; self.timesteps * words];
        for (t, row) in self.chosen.chunks(self.columns()).enumerate() {
            for (column, _) in row.iter().enumerate().filter(|(_, kept)| **kept) {
                rows[t * words + column / 64] |= 1 << (column % 64);
            }
        }
        let kept = (self.blocks * self.top_k) as f32;
        let common = |a: &[u64], b: &[u64]| a.iter().zip(b).map(|(a, b)| (a & b).count_ones()).sum::<u32>();
        let of = |a| rows.chunks(words).map(move |b| common(a, b) as f32 / kept);
        rows.chunks(words).flat_map(of).collect()
    }
}

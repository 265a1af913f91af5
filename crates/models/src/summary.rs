//! Sizes and costs of a network, counted without making it.

use crate::config::{Allocation, Config, TIMESTEPS};
use crate::mlp::RATIO;
use crate::timestep::SINUSOID;
use std::collections::BTreeMap;

/// What a network holds and what an evaluation costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Stored numbers by part; the position table is among them.
    pub parameters: BTreeMap<&'static str, i64>,
    /// Numbers of the position table, which are not trained.
    pub frozen: i64,
    /// Numbers of the experts that a timestep does not use.
    pub unused: i64,
    /// Multiply-accumulates of one image, by part; timestep-only work is not among them where it is done once for all.
    pub macs: BTreeMap<&'static str, i64>,
    /// Multiply-accumulates of the timestep network and all gates for every timestep, which the reference spends at each
    /// evaluation, whatever the batch.
    pub fixed_macs: i64,
}

impl Summary {
    /// Counts.
    pub fn new(config: &Config) -> Self {
        let Config { width: d, blocks, experts, top_k, patch, channels, .. } = *config;
        let tokens = config.tokens();
        let linear = |inputs: i64, outputs: i64| inputs * outputs + outputs;
        let outputs = patch * patch * 2 * channels;
        let inputs = patch * patch * channels;
        let routed = config.routed();
        let timestep_macs = SINUSOID * d + d * d;
        let frozen = tokens * d;

        let mut parameters = BTreeMap::from([
            ("pos_embed", frozen),
            ("x_embedder", linear(inputs, d)),
            ("t_embedder", linear(SINUSOID, d) + linear(d, d)),
            ("y_embedder", config.label_rows() * d),
            ("blocks.attn", blocks * (linear(d, 3 * d) + linear(d, d))),
            ("blocks.mlp", blocks * (linear(d, RATIO * d) + linear(RATIO * d, d))),
            ("blocks.adaLN_modulation", blocks * linear(d, 6 * d)),
            ("final_layer", linear(d, outputs) + linear(d, 2 * d)),
        ]);
        let mut macs = BTreeMap::from([
            ("patch_embed", tokens * inputs * d),
            ("attn_qkv", blocks * tokens * 3 * d * d),
            ("attn_matmuls", blocks * 2 * tokens * tokens * d),
            ("attn_proj", blocks * tokens * d * d),
            ("mlp", blocks * tokens * 2 * RATIO * d * d),
            ("block_adaLN", blocks * 6 * d * d),
            ("final_linear", tokens * d * outputs),
            ("final_adaLN", 2 * d * d),
        ]);
        let (mut unused, mut fixed_macs) = (0, 0);
        if routed {
            let gates = if config.allocation == Allocation::NoisyGate { 2 } else { 1 };
            parameters.insert("routers.f_gate", blocks * gates * linear(d, experts));
            parameters.insert("routers.experts", blocks * experts * linear(d, d));
            macs.insert("experts_k", blocks * top_k * tokens * d * d);
            unused = blocks * (experts - top_k) * linear(d, d);
            fixed_macs = TIMESTEPS * (timestep_macs + blocks * experts * d);
        } else {
            macs.insert("t_mlp", timestep_macs);
        }
        Self { parameters, frozen, unused, macs, fixed_macs }
    }

    /// Stored numbers.
    pub fn stored(&self) -> i64 {
        self.parameters.values().sum()
    }

    /// Numbers that one timestep uses, the paper's "Params".
    pub fn activated(&self) -> i64 {
        self.stored() - self.unused
    }

    /// Multiply-accumulates of one image, the paper's "GFLOPs".
    pub fn macs_per_image(&self) -> i64 {
        self.macs.values().sum()
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millions = |n: i64| n as f64 / 1e6;
        let giga = |n: i64| n as f64 / 1e9;
        writeln!(f, "parameters  {:>13} stored ({:.1} M)", self.stored(), millions(self.stored()))?;
        writeln!(f, "            {:>13} trained", self.stored() - self.frozen)?;
        writeln!(f, "            {:>13} activated ({:.1} M)", self.activated(), millions(self.activated()))?;
        for (name, count) in &self.parameters {
            writeln!(f, "  {name:<24} {count:>13}")?;
        }
        let macs = self.macs_per_image();
        writeln!(f, "MACs        {macs:>13} per image ({:.3} G)", giga(macs))?;
        for (name, count) in &self.macs {
            writeln!(f, "  {name:<24} {count:>13}")?;
        }
        write!(
            f,
            "            {:>13} once per step for all timesteps ({:.3} G)",
            self.fixed_macs,
            giga(self.fixed_macs)
        )
    }
}

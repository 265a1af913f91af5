//! The sparse mixture of experts of a block: a gate that reads the timestep, experts that read the tokens.

use crate::config::{Allocation, Config, Integration};
use crate::linear::Linear;
use crate::parameters::{Builder, Init};
use anyhow::Result;
use tch::{Kind, Tensor};
use torch::shim::fused::{self, Layout};

/// One block's gate and experts.
pub struct Router {
    gate: Linear,
    /// Deviation of the noise, before softplus (noisy top-k).
    noise: Option<Linear>,
    /// `[E, D, D]`, inputs before outputs, unlike [`Linear`].
    weight: Tensor,
    /// `[E, D]`.
    bias: Tensor,
}

impl Router {
    /// `routers.INDEX.f_gate.1` and `routers.INDEX.experts`; fresh experts give 0 where the mask begins as 1. A noisy gate has
    /// `routers.INDEX.f_noise.1` too, which the reference lacks.
    pub fn new(builder: &mut Builder, config: &Config, index: i64) -> Result<Self> {
        let (experts, width) = (config.experts, config.width);
        let path = format!("routers.{index}");
        let init = match config.integration {
            Integration::MaskSkipOne => Init::Zero,
            _ => Init::Xavier { inputs: width, outputs: width },
        };
        let noisy = config.allocation == Allocation::NoisyGate;
        let noise = format!("{path}.f_noise.1");
        Ok(Self {
            gate: Linear::xavier(builder, &format!("{path}.f_gate.1"), width, experts)?,
            noise: noisy.then(|| Linear::new(builder, &noise, width, experts, Init::Zero)).transpose()?,
            weight: builder.parameter(&format!("{path}.experts.w"), &[experts, width, width], init)?,
            bias: builder.parameter(&format!("{path}.experts.b"), &[experts, width], Init::Zero)?,
        })
    }

    /// The gate's layer.
    pub fn gate(&self) -> &Linear {
        &self.gate
    }

    /// The layer of the gate's noise, if it has any.
    pub fn noise(&self) -> Option<&Linear> {
        self.noise.as_ref()
    }

    /// The mixture `Σ_j g_j (z W_j + b_j)`. The experts are affine and the tokens of an image share their gates, so the
    /// kept experts are first added up to one matrix per row of `gates`: 1/K of the products over tokens.
    ///
    /// # Shapes
    /// `z` `[B, N, D]`, `gates` `[B, E]`, or `[1, E]` where all images are at one timestep.
    pub fn forward(&self, z: &Tensor, gates: &Tensor) -> Mixture {
        let (rows, experts) = gates.size2().unwrap_or((0, 0));
        let width = self.bias.size()[1];
        let weights = self.weight.view([experts, width * width]);
        let weight = match fused::serves_throughout(z) {
            true => fused::mix(gates, &weights),
            false => gates.matmul(&weights),
        };
        let weight = weight.view([rows, width, width]);
        let shared = gates.matmul(&self.bias).unsqueeze(1); // [B or 1, 1, D]
        let weight = if rows == 1 { weight.squeeze_dim(0) } else { weight };
        let tokens = fused::product(z, &weight, None, Layout::InputsFirst)
            .unwrap_or_else(|| if rows == 1 { z.matmul(&weight) } else { z.bmm(&weight) });
        Mixture { tokens: Some(tokens), shared }
    }
}

/// What a block's input is multiplied by, or its excess over 1, in two terms.
pub struct Mixture {
    /// The term of each token, `[B, N, D]`, if there is one.
    pub tokens: Option<Tensor>,
    /// The term that the tokens of an image share, `[B, 1, D]`, or `[1, 1, D]` for all images.
    pub shared: Tensor,
}

impl Mixture {
    /// Both terms.
    ///
    /// # Shapes
    /// `[B, N, D]`, or that of `shared` where there is no other.
    pub fn sum(&self) -> Tensor {
        self.tokens.as_ref().map_or_else(|| self.shared.shallow_clone(), |tokens| tokens + &self.shared)
    }

    /// The mixture less 1.
    pub fn excess(&self) -> Self {
        Self { tokens: self.tokens.as_ref().map(Tensor::shallow_clone), shared: &self.shared - 1.0 }
    }
}

/// What the gates of all blocks say about some timesteps.
pub struct Gates {
    /// Before the softmax, noise included, `[B, L, E]`.
    pub logits: Tensor,
    /// Softmax over the experts of a block, `[B, L, E]`.
    pub probabilities: Tensor,
    /// 1 at the kept experts, else 0, `[B, L, E]` without gradient.
    pub chosen: Tensor,
}

/// Added to the softplus of a noisy gate's deviation.
const LEAST_NOISE: f64 = 0.01;

impl Gates {
    /// All blocks' gates in one product. `noise` is standard normal, for noisy gates in training, and multiplies what `deviations`
    /// give; `fixed` stands in for the choice of the most probable experts.
    ///
    /// # Shapes
    /// `embedding`, the timesteps' vectors, `[B, D]`; `noise` and `fixed` `[B, L, E]`.
    pub fn new(
        layers: &[&Linear],
        deviations: &[&Linear],
        embedding: &Tensor,
        top_k: i64,
        noise: Option<&Tensor>,
        fixed: Option<Tensor>,
    ) -> Self {
        let shape = [embedding.size()[0], layers.len() as i64, -1];
        let activated = embedding.silu();
        let all = |layers: &[&Linear]| {
            let weights: Vec<&Tensor> = layers.iter().map(|l| &l.weight).collect();
            let biases: Vec<&Tensor> = layers.iter().map(|l| &l.bias).collect();
            activated.linear(&Tensor::cat(&weights, 0), Some(Tensor::cat(&biases, 0))).view(shape) // [B, L, E]
        };
        let mut logits = all(layers);
        if let (Some(noise), false) = (noise, deviations.is_empty()) {
            logits += noise * (all(deviations).softplus() + LEAST_NOISE);
        }
        let probabilities = logits.softmax(-1, Kind::Float);
        let chosen = fixed.unwrap_or_else(|| {
            let (_, best) = probabilities.detach().topk(top_k, -1, true, false);
            probabilities.detach().zeros_like().scatter_value(-1, &best, 1.0)
        });
        Self { logits, probabilities, chosen }
    }

    /// The gate values `g`: probabilities of the chosen experts, not renormalised.
    ///
    /// # Shapes
    /// `[B, L, E]`.
    pub fn kept(&self) -> Tensor {
        &self.probabilities * &self.chosen
    }
}

#[cfg(test)]
mod tests;

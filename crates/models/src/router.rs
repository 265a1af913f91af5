//! The sparse mixture of experts of a block: a gate that reads the timestep, experts that read the tokens.

use crate::config::Config;
use crate::linear::Linear;
use crate::parameters::{Builder, Init};
use anyhow::Result;
use tch::{Kind, Tensor};

/// One block's gate and experts.
pub struct Router {
    gate: Linear,
    /// `[E, D, D]`, inputs before outputs, unlike [`Linear`].
    weight: Tensor,
    /// `[E, D]`.
    bias: Tensor,
}

impl Router {
    /// `routers.INDEX.f_gate.1` and `routers.INDEX.experts`; fresh experts give 0.
    ///
    /// # Errors
    /// When the weights do not fit.
    pub fn new(builder: &mut Builder, config: &Config, index: i64) -> Result<Self> {
        let (experts, width) = (config.experts, config.width);
        let path = format!("routers.{index}");
        Ok(Self {
            gate: Linear::xavier(builder, &format!("{path}.f_gate.1"), width, experts)?,
            weight: builder.parameter(&format!("{path}.experts.w"), &[experts, width, width], Init::Zero)?,
            bias: builder.parameter(&format!("{path}.experts.b"), &[experts, width], Init::Zero)?,
        })
    }

    /// `m(z) − 1 = Σ_j g_j (z W_j + b_j)`. The experts are affine and the tokens of an image share their gates, so the
    /// kept experts are first added up to one matrix per row of `gates`: 1/K of the products over tokens.
    ///
    /// # Shapes
    /// `z` `[B, N, D]`, `gates` `[B, E]`, or `[1, E]` where all images are at one timestep, to `[B, N, D]`.
    pub fn forward(&self, z: &Tensor, gates: &Tensor) -> Tensor {
        let (rows, experts) = gates.size2().unwrap_or((0, 0));
        let width = self.bias.size()[1];
        let weight = gates.matmul(&self.weight.view([experts, width * width])).view([rows, width, width]);
        let bias = gates.matmul(&self.bias); // [B or 1, D]
        if rows == 1 {
            return z.matmul(&weight.squeeze_dim(0)) + bias.unsqueeze(1);
        }
        bias.unsqueeze(1).baddbmm(z, &weight, 1.0, 1.0)
    }
}

/// What the gates of all blocks say about some timesteps.
pub struct Gates {
    /// Softmax over the experts of a block, `[B, L, E]`.
    pub probabilities: Tensor,
    /// 1 at the `K` most probable experts, else 0, `[B, L, E]` without gradient.
    pub chosen: Tensor,
}

impl Gates {
    /// All blocks' gates in one product.
    ///
    /// # Shapes
    /// `embedding`, the timesteps' vectors, `[B, D]`.
    pub fn new(routers: &[Router], embedding: &Tensor, top_k: i64) -> Self {
        let weights: Vec<&Tensor> = routers.iter().map(|r| &r.gate.weight).collect();
        let biases: Vec<&Tensor> = routers.iter().map(|r| &r.gate.bias).collect();
        let logits = embedding.silu().linear(&Tensor::cat(&weights, 0), Some(Tensor::cat(&biases, 0)));
        let blocks = routers.len() as i64;
        let logits = logits.view([embedding.size()[0], blocks, -1]); // [B, L, E]
        let probabilities = logits.softmax(-1, Kind::Float);
        let (_, best) = probabilities.detach().topk(top_k, -1, true, false);
        let chosen = probabilities.detach().zeros_like().scatter_value(-1, &best, 1.0);
        Self { probabilities, chosen }
    }

    /// The gate values `g`: probabilities of the chosen experts, not renormalised.
    ///
    /// # Shapes
    /// `[B, L, E]`.
    pub fn kept(&self) -> Tensor {
        &self.probabilities * &self.chosen
    }
}

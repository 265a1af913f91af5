//! The transformer block, with or without a mask on its input.

use crate::attention::Attention;
use crate::config::{Config, Integration};
use crate::mlp::Mlp;
use crate::modulation::{Modulation, modulate};
use crate::parameters::Builder;
use anyhow::Result;
use tch::Tensor;

/// Attention and MLP, each behind an adaptive normalisation and a gate.
pub struct Block {
    attention: Attention,
    mlp: Mlp,
    modulation: Modulation,
}

impl Block {
    /// `blocks.INDEX`.
    ///
    /// # Errors
    /// When the weights do not fit.
    pub fn new(builder: &mut Builder, config: &Config, index: i64) -> Result<Self> {
        let path = format!("blocks.{index}");
        Ok(Self {
            attention: Attention::new(builder, &format!("{path}.attn"), config.width, config.heads)?,
            mlp: Mlp::new(builder, &format!("{path}.mlp"), config.width)?,
            modulation: Modulation::new(builder, &path, config.width, 6)?,
        })
    }

    /// The residual branches, Eqs. 5 and 6 without the mask.
    ///
    /// # Shapes
    /// `r` `[B, N, D]`, `activated`, which is SiLU(c), `[B, D]`, to `[B, N, D]`.
    pub fn forward(&self, r: &Tensor, activated: &Tensor) -> Tensor {
        let m = self.modulation.forward(activated);
        let r = r.addcmul(&m[2], &self.attention.forward(&modulate(r, &m[0], &m[1])));
        r.addcmul(&m[5], &self.mlp.forward(&modulate(&r, &m[3], &m[4])))
    }

    /// The block on `z · m`, with `(1 − m) · z` added at the end; `excess` is `m − 1`.
    ///
    /// # Shapes
    /// `z` `[B, N, D]`, `excess` `[B, N, D]` or `[B, 1, D]`, to `[B, N, D]`.
    pub fn forward_masked(&self, z: &Tensor, excess: &Tensor, activated: &Tensor) -> Tensor {
        let change = z * excess;
        self.forward(&(z + &change), activated) - change
    }

    /// The block with a mixture of experts put to use as `integration` says.
    ///
    /// # Shapes
    /// `z` and `mixture` `[B, N, D]`, `activated` `[B, D]`, to `[B, N, D]`.
    pub fn forward_routed(
        &self,
        z: &Tensor,
        mixture: &Tensor,
        activated: &Tensor,
        integration: Integration,
    ) -> Tensor {
        match integration {
            Integration::Replace => self.forward(mixture, activated),
            Integration::Mask => self.forward(&(z * mixture), activated),
            Integration::MaskSkip => self.forward_masked(z, &(mixture - 1.0), activated),
            Integration::MaskSkipOne => self.forward_masked(z, mixture, activated),
        }
    }
}

//! The feed-forward part of a block.

use crate::linear::Linear;
use crate::parameters::Builder;
use anyhow::Result;
use tch::Tensor;
use torch::shim::fused;

/// Hidden width over token width.
pub const RATIO: i64 = 4;

/// Affine, GELU (tanh form), affine.
pub struct Mlp {
    first: Linear,
    second: Linear,
}

impl Mlp {
    /// `PATH.fc1` and `PATH.fc2`.
    pub fn new(builder: &mut Builder, path: &str, width: i64) -> Result<Self> {
        Ok(Self {
            first: Linear::xavier(builder, &format!("{path}.fc1"), width, RATIO * width)?,
            second: Linear::xavier(builder, &format!("{path}.fc2"), RATIO * width, width)?,
        })
    }

    /// # Shapes
    /// `[B, N, D]` to the same.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.second.forward(&self.first.forward(x).gelu("tanh"))
    }

    /// The same for a fused block, without the last bias, which is the second result.
    ///
    /// # Shapes
    /// `[B, N, D]` to the same, and `[D]`.
    pub fn forward_fused(&self, x: &Tensor) -> (Tensor, &Tensor) {
        let hidden = match fused::serves_throughout(x) {
            true => fused::gelu(&self.first.product(x), &self.first.bias),
            false => self.first.forward(x).gelu("tanh"),
        };
        (self.second.product(&hidden), &self.second.bias)
    }
}

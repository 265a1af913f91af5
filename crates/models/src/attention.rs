//! Self-attention over the tokens of an image.

use crate::linear::Linear;
use crate::parameters::Builder;
use anyhow::Result;
use tch::Tensor;
use torch::shim::fused;

/// Queries, keys and values from one projection; softmax attention per head; an output projection.
pub struct Attention {
    qkv: Linear,
    projection: Linear,
    heads: i64,
}

impl Attention {
    /// `PATH.qkv` and `PATH.proj`.
    pub fn new(builder: &mut Builder, path: &str, width: i64, heads: i64) -> Result<Self> {
        Ok(Self {
            qkv: Linear::xavier(builder, &format!("{path}.qkv"), width, 3 * width)?,
            projection: Linear::xavier(builder, &format!("{path}.proj"), width, width)?,
            heads,
        })
    }

    /// # Shapes
    /// `[B, N, D]` to the same.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.projection.forward(&self.mix(&self.qkv.forward(x)))
    }

    /// The same for a fused block, without the last bias, which is the second result.
    ///
    /// # Shapes
    /// `[B, N, D]` to the same, and `[D]`.
    pub fn forward_fused(&self, x: &Tensor) -> (Tensor, &Tensor) {
        let qkv = self.qkv.forward(x);
        let mixed = match fused::serves_throughout(x) && fused::attends(x.size()[1]) {
            true => fused::attention(&qkv, self.heads),
            false => self.mix(&qkv),
        };
        (self.projection.product(&mixed), &self.projection.bias)
    }

    /// # Shapes
    /// `qkv` `[B, N, 3D]` to `[B, N, D]`.
    fn mix(&self, qkv: &Tensor) -> Tensor {
        let (batch, tokens, triple) = qkv.size3().unwrap_or((0, 0, 0));
        let shape = [batch, tokens, 3, self.heads, triple / 3 / self.heads];
        let qkv = qkv.view(shape).permute([2, 0, 3, 1, 4]); // [3, B, heads, N, D/heads]
        let (q, k, v) = (qkv.get(0), qkv.get(1), qkv.get(2));
        let mixed =
            Tensor::scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, false, None, false);
        mixed.transpose(1, 2).reshape([batch, tokens, triple / 3])
    }
}

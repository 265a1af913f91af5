//! Adaptive normalisation: shifts, scales and gates from the conditioning vector.

use crate::linear::Linear;
use crate::parameters::{Builder, Init};
use anyhow::Result;
use tch::{Kind, Tensor};
pub use torch::shim::fused::plain::modulate;

/// One affine map of the activated conditioning vector, zero when fresh.
pub struct Modulation {
    linear: Linear,
    parts: i64,
}

impl Modulation {
    /// `PATH.adaLN_modulation.1` with `parts` vectors of the given width.
    ///
    /// # Errors
    /// When the weights do not fit.
    pub fn new(builder: &mut Builder, path: &str, width: i64, parts: i64) -> Result<Self> {
        let path = format!("{path}.adaLN_modulation.1");
        Ok(Self { linear: Linear::new(builder, &path, width, parts * width, Init::Zero)?, parts })
    }

    /// # Shapes
    /// `activated`, which is SiLU(c), `[B, D]` to `parts` tensors `[B, 1, D]`.
    pub fn forward(&self, activated: &Tensor) -> Vec<Tensor> {
        self.split(&self.linear.forward(activated))
    }

    /// The same in f32, as fused passes take it.
    ///
    /// # Shapes
    /// As [`Self::forward`].
    pub fn forward_fused(&self, activated: &Tensor) -> Vec<Tensor> {
        self.split(&self.linear.forward(activated).to_kind(Kind::Float))
    }

    fn split(&self, all: &Tensor) -> Vec<Tensor> {
        all.unsqueeze(1).chunk(self.parts, 2)
    }
}

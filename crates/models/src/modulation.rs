//! Adaptive normalisation: shifts, scales and gates from the conditioning vector.

use crate::linear::Linear;
use crate::parameters::{Builder, Init};
use anyhow::Result;
use tch::{Kind, Tensor};
pub use torch::shim::fused::plain::modulate;

/// One affine map of the activated conditioning vector, zero when fresh.
pub struct Modulation<const PARTS: usize> {
    linear: Linear,
}

impl<const PARTS: usize> Modulation<PARTS> {
    /// `PATH.adaLN_modulation.1` with vectors of the given width.
    pub fn new(builder: &mut Builder, path: &str, width: i64) -> Result<Self> {
        let path = format!("{path}.adaLN_modulation.1");
        Ok(Self { linear: Linear::new(builder, &path, width, PARTS as i64 * width, Init::Zero)? })
    }

    /// # Shapes
    /// `activated`, which is SiLU(c), `[B, D]` to tensors `[B, 1, D]`.
    pub fn forward(&self, activated: &Tensor) -> [Tensor; PARTS] {
        self.split(&self.linear.forward(activated))
    }

    /// The same in f32, as fused passes take it.
    ///
    /// # Shapes
    /// As [`Self::forward`].
    pub fn forward_fused(&self, activated: &Tensor) -> [Tensor; PARTS] {
        self.split(&self.linear.forward(activated).to_kind(Kind::Float))
    }

    fn split(&self, all: &Tensor) -> [Tensor; PARTS] {
        let parts = all.unsqueeze(1).chunk(PARTS as i64, 2);
        parts
            .try_into()
            .unwrap_or_else(|parts: Vec<Tensor>| panic!("a modulation of {} vectors", parts.len()))
    }
}

//! The precision that products are computed in.

use crate::shim;
use anyhow::Result;
use tch::{Device, Kind};

stage::choice! {
    /// What products and attention are computed in. Weights, moments and averages are f32 always.
    pub enum Precision {
        /// f32.
        F32 = "f32",
        /// bfloat16, with f32 where accuracy needs it: gates, timestep vectors, norms, the residual stream, losses.
        Bf16 = "bf16",
    }
}

impl Precision {
    /// The kind of tensor.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }

    /// Runs an evaluation of a network in this precision. The backward pass goes outside.
    pub fn run<T>(self, device: Device, work: impl FnOnce() -> T) -> Result<T> {
        shim::autocast(device, self.kind(), || Ok(work()))
    }
}

//! From tokens to the noise and variance values of their patches.

use crate::config::Config;
use crate::linear::Linear;
use crate::modulation::{Modulation, modulate};
use crate::parameters::{Builder, Init};
use crate::patch::unpatchify;
use anyhow::Result;
use tch::Tensor;
use torch::shim::fused;

/// Adaptive normalisation, affine map, patches put in place.
pub struct FinalLayer {
    linear: Linear,
    modulation: Modulation<2>,
    patch: i64,
    outputs: i64,
}

impl FinalLayer {
    /// `final_layer`, zero when fresh.
    pub fn new(builder: &mut Builder, config: &Config) -> Result<Self> {
        let Config { width, patch, channels, .. } = *config;
        let outputs = 2 * channels;
        Ok(Self {
            linear: Linear::new(builder, "final_layer.linear", width, patch * patch * outputs, Init::Zero)?,
            modulation: Modulation::new(builder, "final_layer", width)?,
            patch,
            outputs,
        })
    }

    /// The values of each token, the channel running fastest.
    ///
    /// # Shapes
    /// `z` `[B, N, D]`, `activated` `[B, D]`, to `[B, N, patch · patch · 2C]`.
    pub fn tokens(&self, z: &Tensor, activated: &Tensor) -> Tensor {
        let h = if fused::serves(z) {
            let [shift, scale] = self.modulation.forward_fused(activated);
            fused::modulate(z, &shift, &scale)
        } else {
            let [shift, scale] = self.modulation.forward(activated);
            modulate(z, &shift, &scale)
        };
        self.linear.forward(&h)
    }

    /// # Shapes
    /// `z` `[B, N, D]`, `activated` `[B, D]`, to `[B, 2C, S, S]`.
    pub fn forward(&self, z: &Tensor, activated: &Tensor) -> Tensor {
        unpatchify(&self.tokens(z, activated), self.patch, self.outputs)
    }
}

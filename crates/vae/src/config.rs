//! The sizes of the network, and a look at its layers.

use tch::Tensor;

/// Sees every layer's output under diffusers' module name; for comparing two implementations layer by layer.
pub type Trace<'a> = &'a mut dyn FnMut(&str, &Tensor);

/// The sizes of the network; all of them show in the shapes of its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Channels of each level, from the picture inwards; multiples of 32, the number of groups of every norm.
    /// Between two levels both sides are halved.
    pub channels: Vec<i64>,
    /// Residual blocks of a level of the encoder; the decoder has one more.
    pub layers: i64,
    /// Channels of the latent.
    pub latent: i64,
    /// Channels of the picture.
    pub picture: i64,
}

impl Config {
    /// `sd-vae-ft-ema` and its kin: 83,653,863 parameters, 8 pixels to one latent position.
    pub fn stable_diffusion() -> Self {
        Self { channels: vec![128, 256, 512, 512], layers: 2, latent: 4, picture: 3 }
    }

    /// Pixels of the picture per position of the latent, on one side.
    pub fn factor(&self) -> i64 {
        1 << (self.channels.len() - 1)
    }
}

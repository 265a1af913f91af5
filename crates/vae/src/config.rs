//! The sizes of an autoencoder.

use crate::layers::GROUPS;
use anyhow::Result;
use stage::bad_input;
use weights::Weights;

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

    /// Reads the sizes off the shapes of weights under diffusers' current names.
    pub(crate) fn infer(weights: &Weights) -> Result<Self> {
        let size = |name: &str, axis: usize| {
            let size = weights.size(name).and_then(|size| size.get(axis).copied());
            size.filter(|&n| n > 0).ok_or_else(|| {
                stage::BadInput(format!("{}: no tensor {name}, so no AutoencoderKL", weights.source()))
            })
        };
        let count = |name: &dyn Fn(i64) -> String| (0..).take_while(|&i| weights.has(&name(i))).count();
        let levels = count(&|i| format!("encoder.down_blocks.{i}.resnets.0.conv1.weight"));
        let layers = count(&|j| format!("encoder.down_blocks.0.resnets.{j}.conv1.weight"));
        let channels: Result<Vec<i64>, _> = (0..levels)
            .map(|i| size(&format!("encoder.down_blocks.{i}.resnets.0.conv1.weight"), 0))
            .collect();
        let config = Self {
            picture: size("encoder.conv_in.weight", 1)?,
            latent: size("decoder.conv_in.weight", 1)?,
            channels: channels?,
            layers: layers as i64,
        };
        if config.channels.is_empty() {
            bad_input!("{}: no tensor encoder.down_blocks.0.resnets.0.conv1.weight", weights.source())
        }
        if let Some(c) = config.channels.iter().find(|&c| c % GROUPS != 0) {
            bad_input!("{}: {c} channels do not divide into {} groups", weights.source(), GROUPS)
        }
        Ok(config)
    }
}

//! The two halves of the autoencoder: encoder and decoder, level by level.

use super::config::{Config, Trace};
use super::layers::{Attention, Conv, Norm, Resnet, Take};
use anyhow::Result;
use tch::Tensor;

/// Pictures to moments.
pub struct Encoder {
    conv_in: Conv,
    levels: Vec<Level>,
    mid: Mid,
    conv_norm_out: Norm,
    conv_out: Conv,
}

impl Encoder {
    pub fn new(config: &Config, take: &mut Take) -> Result<Self> {
        let (first, deepest) = (config.channels[0], config.channels[config.channels.len() - 1]);
        let conv_in = Conv::new("encoder.conv_in", config.picture, first, 3, take)?;
        let mut levels = Vec::new();
        let mut from = first;
        for (i, &to) in config.channels.iter().enumerate() {
            let name = format!("encoder.down_blocks.{i}");
            let resize = (i + 1 < config.channels.len()).then(|| format!("{name}.downsamplers.0.conv"));
            levels.push(Level::new(name, from, to, config.layers, resize, take)?);
            from = to;
        }
        Ok(Self {
            conv_in,
            levels,
            mid: Mid::new("encoder.mid_block", deepest, take)?,
            conv_norm_out: Norm::new("encoder.conv_norm_out", deepest, take)?,
            conv_out: Conv::new("encoder.conv_out", deepest, 2 * config.latent, 3, take)?,
        })
    }

    /// # Shapes
    /// `x` `[B, 3, H, W]`; the output `[B, 2C, H/f, W/f]`.
    pub fn forward(&self, x: &Tensor, trace: Trace) -> Result<Tensor> {
        let mut h = self.conv_in.forward(x)?;
        trace("encoder.conv_in", &h);
        for level in &self.levels {
            h = level.blocks(h, trace)?;
            if let Some(conv) = &level.resize {
                h = conv.halve(&h)?; // [B, ., H/2, W/2]
            }
            trace(&level.name, &h);
        }
        let h = self.mid.forward(&h, trace)?;
        let h = self.conv_norm_out.forward(&h)?;
        trace("encoder.conv_norm_out", &h);
        let h = self.conv_out.forward(&h.f_silu()?)?;
        trace("encoder.conv_out", &h);
        Ok(h)
    }
}

/// Latents to pictures.
pub struct Decoder {
    conv_in: Conv,
    mid: Mid,
    levels: Vec<Level>,
    conv_norm_out: Norm,
    conv_out: Conv,
}

impl Decoder {
    pub fn new(config: &Config, take: &mut Take) -> Result<Self> {
        let (first, deepest) = (config.channels[0], config.channels[config.channels.len() - 1]);
        let conv_in = Conv::new("decoder.conv_in", config.latent, deepest, 3, take)?;
        let mid = Mid::new("decoder.mid_block", deepest, take)?;
        let mut levels = Vec::new();
        let mut from = deepest;
        for (i, &to) in config.channels.iter().rev().enumerate() {
            let name = format!("decoder.up_blocks.{i}");
            let resize = (i + 1 < config.channels.len()).then(|| format!("{name}.upsamplers.0.conv"));
            levels.push(Level::new(name, from, to, config.layers + 1, resize, take)?);
            from = to;
        }
        Ok(Self {
            conv_in,
            mid,
            levels,
            conv_norm_out: Norm::new("decoder.conv_norm_out", first, take)?,
            conv_out: Conv::new("decoder.conv_out", first, config.picture, 3, take)?,
        })
    }

    /// # Shapes
    /// `z` `[B, C, H, W]`; the output `[B, 3, f*H, f*W]`.
    pub fn forward(&self, z: &Tensor, trace: Trace) -> Result<Tensor> {
        let h = self.conv_in.forward(z)?;
        trace("decoder.conv_in", &h);
        let mut h = self.mid.forward(&h, trace)?;
        for level in &self.levels {
            h = level.blocks(h, trace)?;
            if let Some(conv) = &level.resize {
                let (_, _, height, width) = h.size4()?;
                h = conv.forward(&h.f_upsample_nearest2d([2 * height, 2 * width], None, None)?)?; // [B, ., 2H, 2W]
            }
            trace(&level.name, &h);
        }
        let h = self.conv_norm_out.forward(&h)?;
        trace("decoder.conv_norm_out", &h);
        let h = self.conv_out.forward(&h.f_silu()?)?;
        trace("decoder.conv_out", &h);
        Ok(h)
    }
}

/// The residual blocks of one size, and the way to the next size.
struct Level {
    name: String,
    resnets: Vec<Resnet>,
    resize: Option<Conv>,
}

impl Level {
    fn new(
        name: String,
        from: i64,
        to: i64,
        layers: i64,
        resize: Option<String>,
        take: &mut Take,
    ) -> Result<Self> {
        let resnets = (0..layers)
            .map(|j| Resnet::new(&format!("{name}.resnets.{j}"), if j == 0 { from } else { to }, to, take))
            .collect::<Result<_>>()?;
        let resize = resize.map(|module| Conv::new(&module, to, to, 3, take)).transpose()?;
        Ok(Self { name, resnets, resize })
    }

    fn blocks(&self, h: Tensor, trace: Trace) -> Result<Tensor> {
        self.resnets.iter().try_fold(h, |h, resnet| resnet.forward(&h, trace))
    }
}

/// A residual block, attention and a residual block at the smallest size.
struct Mid {
    name: &'static str,
    first: Resnet,
    attention: Attention,
    second: Resnet,
}

impl Mid {
    fn new(name: &'static str, channels: i64, take: &mut Take) -> Result<Self> {
        Ok(Self {
            name,
            first: Resnet::new(&format!("{name}.resnets.0"), channels, channels, take)?,
            attention: Attention::new(&format!("{name}.attentions.0"), channels, take)?,
            second: Resnet::new(&format!("{name}.resnets.1"), channels, channels, take)?,
        })
    }

    fn forward(&self, x: &Tensor, trace: Trace) -> Result<Tensor> {
        let h = self.first.forward(x, trace)?;
        let h = self.attention.forward(&h, trace)?;
        let h = self.second.forward(&h, trace)?;
        trace(self.name, &h);
        Ok(h)
    }
}

//! The autoencoder of Stable Diffusion (`AutoencoderKL`): pictures to latents and back.

mod coder;
mod config;
mod layers;
mod names;

use anyhow::Result;
use coder::{Decoder, Encoder};
use layers::{Conv, Take, channels_last};
use stage::bad_input;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};
use weights::Weights;

pub use config::{Config, Trace};

/// What a latent is multiplied by before a diffusion model sees it: one over its standard deviation over natural
/// pictures (latent diffusion, §4.3.2 and its released configuration).
pub const LATENT_SCALE: f64 = 0.18215;

/// Reference behaviour: diffusers clamps the predicted log-variance to this range.
const LOGVAR_RANGE: (f64, f64) = (-30.0, 20.0);

impl Config {
    /// Every tensor under diffusers' current name, with its shape.
    pub fn shapes(&self) -> Result<BTreeMap<String, Vec<i64>>> {
        let mut shapes = BTreeMap::new();
        Vae::build(self.clone(), Device::Cpu, Kind::Float, &mut |name, shape| {
            shapes.insert(name.to_string(), shape.to_vec());
            Ok(Tensor::f_zeros([0], (Kind::Float, Device::Cpu))?)
        })?;
        Ok(shapes)
    }

    /// Reads the sizes off the shapes of weights under diffusers' current names.
    fn infer(weights: &Weights) -> Result<Self> {
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
            latent: size("post_quant_conv.weight", 0)?,
            channels: channels?,
            layers: layers as i64,
        };
        if config.channels.is_empty() {
            bad_input!("{}: no tensor encoder.down_blocks.0.resnets.0.conv1.weight", weights.source())
        }
        if let Some(c) = config.channels.iter().find(|&c| c % layers::GROUPS != 0) {
            bad_input!("{}: {c} channels do not divide into {} groups", weights.source(), layers::GROUPS)
        }
        Ok(config)
    }
}

/// The posterior of a latent, a normal distribution per position; none of it is scaled by [`LATENT_SCALE`].
#[derive(Debug)]
pub struct Posterior {
    /// Mean. `[B, C, H, W]`, f32.
    pub mean: Tensor,
    /// Standard deviation. `[B, C, H, W]`, f32.
    pub std: Tensor,
    /// Logarithm of the variance, clamped to [-30, 20]. `[B, C, H, W]`, f32.
    pub logvar: Tensor,
}

impl Posterior {
    /// From the encoder's output, the means above the log-variances.
    ///
    /// # Shapes
    /// `moments` `[B, 2C, H, W]`, f32.
    ///
    /// # Errors
    /// When libtorch fails, as on an odd number of channels.
    pub fn new(moments: &Tensor) -> Result<Self> {
        let mut halves = moments.f_chunk(2, 1)?.into_iter();
        let (Some(mean), Some(logvar)) = (halves.next(), halves.next()) else {
            anyhow::bail!("moments of shape {:?} have no log-variance", moments.size())
        };
        let logvar = logvar.f_clamp(LOGVAR_RANGE.0, LOGVAR_RANGE.1)?;
        let std = logvar.f_mul_scalar(0.5)?.f_exp()?;
        Ok(Self { mean, std, logvar })
    }

    /// A sample: `mean + std * noise`.
    ///
    /// # Shapes
    /// `noise` and the sample `[B, C, H, W]`.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        Ok(self.mean.f_add(&self.std.f_mul(noise)?)?)
    }

    /// The divergence from the standard normal distribution, summed over each latent. `[B]`.
    pub fn kl(&self) -> Result<Tensor> {
        let variance = self.logvar.f_exp()?;
        let terms = self.mean.f_square()?.f_add(&variance)?.f_sub_scalar(1.0)?.f_sub(&self.logvar)?;
        Ok(terms.f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float)?.f_mul_scalar(0.5)?)
    }
}

/// The autoencoder with its weights.
pub struct Vae {
    config: Config,
    device: Device,
    kind: Kind,
    encoder: Encoder,
    quant_conv: Conv,
    post_quant_conv: Conv,
    decoder: Decoder,
}

impl Vae {
    /// Takes the weights under any of their public names: diffusers' current and earlier ones, those of latent diffusion
    /// (CompVis), bare or under `first_stage_model.` or `vae.` inside a larger checkpoint. The sizes follow from the
    /// shapes. `kind` is what the network computes in; the file may store another.
    ///
    /// Tensors that are `f32` on `device` already are used as they stand, so that gradients reach them.
    ///
    /// # Errors
    /// Bad input when a tensor is missing, misshapen or left over.
    pub fn load(weights: Weights, device: Device, kind: Kind) -> Result<Self> {
        let mut weights = names::current(weights)?;
        let config = Config::infer(&weights)?;
        let vae = Self::build(config, device, kind, &mut |name, shape| weights.take(name, shape))?;
        weights.finish()?;
        Ok(vae)
    }

    fn build(
        config: Config,
        device: Device,
        kind: Kind,
        take: &mut dyn FnMut(&str, &[i64]) -> Result<Tensor>,
    ) -> Result<Self> {
        let mut take = Take { device, kind, take };
        let c = config.latent;
        Ok(Self {
            encoder: Encoder::new(&config, &mut take)?,
            quant_conv: Conv::new("quant_conv", 2 * c, 2 * c, 1, &mut take)?,
            post_quant_conv: Conv::new("post_quant_conv", c, c, 1, &mut take)?,
            decoder: Decoder::new(&config, &mut take)?,
            config,
            device,
            kind,
        })
    }

    /// The sizes of the network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The posterior of the latents of pictures.
    ///
    /// # Shapes
    /// `x` `[B, 3, H, W]` in [-1, 1], any kind and device; the moments `[B, C, H/f, W/f]`, f32, on the network's device
    /// (`f` is [`Config::factor`]; a side is halved rounding down).
    ///
    /// # Errors
    /// When the shape is none the network can take, or libtorch fails.
    pub fn encode_moments(&self, x: &Tensor) -> Result<Posterior> {
        Posterior::new(&self.encode_traced(x, &mut |_, _| {})?)
    }

    /// The encoder's raw output, `trace` seeing every layer on the way.
    ///
    /// # Shapes
    /// `x` `[B, 3, H, W]`; the output `[B, 2C, H/f, W/f]`, f32.
    ///
    /// # Errors
    /// As [`Vae::encode_moments`].
    pub fn encode_traced(&self, x: &Tensor, trace: Trace) -> Result<Tensor> {
        let x = self.check(x, self.config.picture, self.config.factor(), "pictures")?;
        let h = self.encoder.forward(&x, trace)?;
        let moments = self.quant_conv.forward(&h)?;
        trace("quant_conv", &moments);
        Ok(moments.f_to_kind(Kind::Float)?.f_contiguous()?)
    }

    /// Pictures of latents, which must not be scaled: `decode(z / LATENT_SCALE)` for a diffusion model's `z`.
    ///
    /// # Shapes
    /// `z` `[B, C, H, W]`, any kind and device; the pictures `[B, 3, f*H, f*W]`, f32, about in [-1, 1].
    ///
    /// # Errors
    /// When the shape is none the network can take, or libtorch fails.
    pub fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.decode_traced(z, &mut |_, _| {})
    }

    /// [`Vae::decode`], `trace` seeing every layer on the way.
    ///
    /// # Errors
    /// As [`Vae::decode`].
    pub fn decode_traced(&self, z: &Tensor, trace: Trace) -> Result<Tensor> {
        let z = self.check(z, self.config.latent, 1, "latents")?;
        let h = self.post_quant_conv.forward(&z)?;
        trace("post_quant_conv", &h);
        let x = self.decoder.forward(&h, trace)?;
        Ok(x.f_to_kind(Kind::Float)?.f_contiguous()?)
    }

    fn check(&self, x: &Tensor, channels: i64, least: i64, what: &str) -> Result<Tensor> {
        match x.size().as_slice() {
            [_, c, h, w] if *c == channels && *h >= least && *w >= least => {}
            other => anyhow::bail!(
                "{what} of shape {other:?}, wanted [B, {channels}, H, W] with H, W of at least {least}"
            ),
        }
        channels_last(&x.f_to_device(self.device)?.f_to_kind(self.kind)?)
    }
}

/// Pictures as the network gives them, about in [-1, 1], as bytes: `clamp(127.5 x + 128, 0, 255)`, the fraction dropped.
///
/// Reference behaviour: DiT's `sample_ddp.py` and its descendants; rounding would give other bytes.
pub fn to_bytes(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_mul_scalar(127.5)?.f_add_scalar(128.0)?.f_clamp(0.0, 255.0)?.f_to_kind(Kind::Uint8)?)
}

/// Bytes as the network wants them: `(u/255 - 0.5) / 0.5`, f32 in [-1, 1].
///
/// Reference behaviour: torchvision's `ToTensor` and `Normalize` with mean and deviation 0.5.
pub fn from_bytes(bytes: &Tensor) -> Result<Tensor> {
    let unit = bytes.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?;
    Ok(unit.f_sub_scalar(0.5)?.f_div_scalar(0.5)?)
}

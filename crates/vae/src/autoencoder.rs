//! The autoencoder with its weights.

use crate::coder::{Decoder, Encoder};
use crate::config::Config;
use crate::layers::{Conv, Take, Trace, channels_last};
use crate::names;
use crate::posterior::Posterior;
use anyhow::Result;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};
use weights::Weights;

/// What an identity begins with; older files have BLAKE3 of a file there.
pub const IDENTITY_MARK: &str = "tensors:";
/// What [`Vae::identity`] is a digest of. Version 1: each tensor's name, shape and values in f16, by name.
const IDENTITY: &str = "switch-dit 2026 autoencoder's tensors v1";

impl Config {
    /// Every tensor under diffusers' current name, with its shape.
    pub fn shapes(&self) -> Result<BTreeMap<String, Vec<i64>>> {
        let mut shapes = BTreeMap::new();
        Vae::build(self.clone(), true, Device::Cpu, Kind::Float, &mut |name, shape| {
            shapes.insert(name.to_string(), shape.to_vec());
            Ok(Tensor::f_zeros([0], (Kind::Float, Device::Cpu))?)
        })?;
        Ok(shapes)
    }
}

/// The autoencoder with its weights.
pub struct Vae {
    config: Config,
    device: Device,
    kind: Kind,
    encoder: Encoder,
    /// The maps between moments and latents, which newer autoencoders do without.
    quant: Option<[Conv; 2]>,
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
        let quant = weights.has("quant_conv.weight") || weights.has("post_quant_conv.weight");
        let vae = Self::build(config, quant, device, kind, &mut |name, shape| weights.take(name, shape))?;
        weights.finish()?;
        Ok(vae)
    }

    /// The sizes that weights show, under any of their public names; no tensor is read.
    ///
    /// # Errors
    /// Bad input when they are none of an autoencoder.
    pub fn sizes(weights: &Weights) -> Result<Config> {
        Config::infer(&names::current(weights.shallow_clone())?)
    }

    /// Which autoencoder these are the weights of: a digest of its tensors, each rounded to f16, under diffusers' current names.
    /// The same autoencoder has it in f32 and f16, and under any of its names.
    ///
    /// # Errors
    /// Bad input when two tensors have one name, or one is damaged.
    pub fn identity(weights: &Weights) -> Result<String> {
        let mut hasher = blake3::Hasher::new_derive_key(IDENTITY);
        let mut weights = names::current(weights.shallow_clone())?;
        let names: Vec<String> = weights.names().map(String::from).collect();
        for name in names {
            let size = weights.size(&name).unwrap_or_default();
            let half = weights
                .take(&name, &size)?
                .f_to_device(Device::Cpu)?
                .f_to_kind(Kind::Half)?
                .f_contiguous()?;
            let mut bytes = vec![0; 2 * half.numel()];
            half.f_copy_data_u8(&mut bytes, half.numel())?;
            hasher.update(format!("{name} {:?}\n", half.size()).as_bytes());
            hasher.update(&bytes);
        }
        Ok(format!("{IDENTITY_MARK}{}", hasher.finalize().to_hex()))
    }

    fn build(
        config: Config,
        quant: bool,
        device: Device,
        kind: Kind,
        take: &mut dyn FnMut(&str, &[i64]) -> Result<Tensor>,
    ) -> Result<Self> {
        let mut take = Take { device, kind, take };
        let c = config.latent;
        let encoder = Encoder::new(&config, &mut take)?;
        let quant = match quant {
            true => Some([
                Conv::new("quant_conv", 2 * c, 2 * c, 1, &mut take)?,
                Conv::new("post_quant_conv", c, c, 1, &mut take)?,
            ]),
            false => None,
        };
        Ok(Self { encoder, quant, decoder: Decoder::new(&config, &mut take)?, config, device, kind })
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
        let moments = match &self.quant {
            Some([conv, _]) => conv.forward(&h)?,
            None => h,
        };
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
        let h = match &self.quant {
            Some([_, conv]) => conv.forward(&z)?,
            None => z,
        };
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

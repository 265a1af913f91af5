//! Timesteps as vectors.

use crate::linear::Linear;
use crate::parameters::{Builder, Init};
use anyhow::Result;
use tch::{Kind, Tensor};

/// Width of the sinusoid that the timestep network reads.
pub const SINUSOID: i64 = 256;

/// Sinusoid, affine, SiLU, affine.
pub struct TimestepEmbedding {
    first: Linear,
    second: Linear,
    /// Of the sinusoid, on the device: a copy from the host would make it wait.
    frequencies: Tensor,
}

impl TimestepEmbedding {
    /// `t_embedder.mlp`.
    pub fn new(builder: &mut Builder, width: i64) -> Result<Self> {
        let std = 0.02;
        Ok(Self {
            frequencies: frequencies(SINUSOID).to_device(builder.device()),
            first: Linear::new(builder, "t_embedder.mlp.0", SINUSOID, width, Init::Normal(std))?,
            second: Linear::new(builder, "t_embedder.mlp.2", width, width, Init::Normal(std))?,
        })
    }

    /// The same with these layers in the place of its own.
    pub fn with(&self, first: Linear, second: Linear) -> Self {
        Self { first, second, frequencies: self.frequencies.shallow_clone() }
    }

    /// # Shapes
    /// `t` `[B]` of any kind to `[B, D]`.
    pub fn forward(&self, t: &Tensor) -> Tensor {
        self.second.forward(&self.first.forward(&table(t, &self.frequencies)).silu())
    }
}

/// Cosines, then sines, of `t` at `width / 2` frequencies, in f32 as the reference; a zero column where `width` is odd.
///
/// # Shapes
/// `t` `[B]` to `[B, width]`.
pub fn sinusoid(t: &Tensor, width: i64) -> Tensor {
    let table = table(t, &frequencies(width).to_device(t.device()));
    if width % 2 == 1 { table.constant_pad_nd([0, 1]) } else { table }
}

/// From 1 down to almost 1 / 10000, rounded correctly on every processor: libraries of vector functions differ in the last bit
/// of an exponential, which at late timesteps is 3e-5 in the angle.
///
/// # Shapes
/// `[width / 2]`.
fn frequencies(width: i64) -> Tensor {
    let half = width / 2;
    let exponent = |step: i64| step as f32 * -(10000f64.ln() as f32) / half as f32;
    let values: Vec<f32> = (0..half).map(|step| f64::from(exponent(step)).exp() as f32).collect();
    Tensor::from_slice(&values)
}

/// # Shapes
/// `t` `[B]`, `frequencies` `[F]`, to `[B, 2F]`.
fn table(t: &Tensor, frequencies: &Tensor) -> Tensor {
    let angles = t.to_kind(Kind::Float).unsqueeze(1) * frequencies.unsqueeze(0); // [B, F]
    Tensor::cat(&[angles.cos(), angles.sin()], 1)
}

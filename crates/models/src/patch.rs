//! Latents to tokens, and back.

use crate::config::Config;
use crate::linear::Linear;
use crate::parameters::{Builder, Init};
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Patch projection and the fixed table of positions.
pub struct PatchEmbedding {
    projection: Linear,
    positions: Tensor,
    patch: i64,
}

impl PatchEmbedding {
    /// `x_embedder.proj` and `pos_embed`.
    pub fn new(builder: &mut Builder, config: &Config) -> Result<Self> {
        let Config { width, channels, patch, .. } = *config;
        let positions = builder.frozen("pos_embed", &position_table(width, config.grid()).unsqueeze(0))?;
        let inputs = channels * patch * patch;
        let init = Init::Xavier { inputs, outputs: width };
        let shape = [width, channels, patch, patch];
        let projection = Linear {
            weight: builder.parameter("x_embedder.proj.weight", &shape, init)?,
            bias: builder.parameter("x_embedder.proj.bias", &[width], Init::Zero)?,
        };
        Ok(Self { projection, positions, patch })
    }

    /// The convolution with kernel = stride = patch, as one matrix product.
    ///
    /// # Shapes
    /// `x` `[B, C, S, S]` to `[B, N, D]`, tokens row by row.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (batch, channels, height, width) = x.size4().unwrap_or((0, 0, 0, 0));
        let (rows, columns) = (height / self.patch, width / self.patch);
        let x = x.reshape([batch, channels, rows, self.patch, columns, self.patch]);
        // [B, rows, columns, C, row in patch, column in patch]
        let x = x.permute([0, 2, 4, 1, 3, 5]).reshape([batch, rows * columns, -1]);
        x.linear(&self.projection.weight.flatten(1, -1), Some(&self.projection.bias)) + &self.positions
    }
}

/// Tokens to a picture of `channels` channels; in a token the channel runs fastest.
///
/// # Shapes
/// `[B, N, patch · patch · channels]` to `[B, channels, S, S]`.
pub fn unpatchify(tokens: &Tensor, patch: i64, channels: i64) -> Tensor {
    let (batch, count, _) = tokens.size3().unwrap_or((0, 0, 0));
    let grid = (count as f64).sqrt().round() as i64;
    let x = tokens.reshape([batch, grid, grid, patch, patch, channels]);
    x.permute([0, 5, 1, 3, 2, 4]).reshape([batch, channels, grid * patch, grid * patch])
}

/// Sines and cosines of the column, then of the row, at `width / 4` frequencies; f64 rounded to f32.
///
/// # Shapes
/// `[grid · grid, width]`.
pub fn position_table(width: i64, grid: i64) -> Tensor {
    let quarter = width / 4;
    let options = (Kind::Double, Device::Cpu);
    let frequencies = (Tensor::arange(quarter, options) * (-(10000f64.ln()) / quarter as f64)).exp();
    let angles = Tensor::arange(grid, options).outer(&frequencies); // [grid, D/4]
    let halves = Tensor::cat(&[angles.sin(), angles.cos()], 1); // [grid, D/2]
    let columns = halves.unsqueeze(0).expand([grid, grid, 2 * quarter], false);
    let rows = halves.unsqueeze(1).expand([grid, grid, 2 * quarter], false);
    Tensor::cat(&[columns, rows], 2).reshape([grid * grid, 4 * quarter]).to_kind(Kind::Float)
}

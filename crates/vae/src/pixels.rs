//! Pictures as bytes and as the network has them.

use anyhow::Result;
use tch::{Kind, Tensor};

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

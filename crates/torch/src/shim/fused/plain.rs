//! The plain formulas of passes that stand beside no caller alone: for every kind and device.

use tch::Tensor;

/// Keeps the variance of a normalised token from 0.
const EPSILON: f64 = 1e-6;

/// `LN(x) · (1 + scale) + shift`, the normalisation without parameters of its own.
///
/// # Shapes
/// `x` `[B, N, D]`, `shift` and `scale` `[B, 1, D]`.
pub fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Tensor {
    let width = x.size().last().copied().unwrap_or(0);
    let normal = x.layer_norm([width], None::<&Tensor>, None::<&Tensor>, EPSILON, false);
    shift.addcmul(&normal, &(scale + 1.0))
}

//! ADM's centre crop.

use crate::resample::{Filter, resize};
use crate::rgb::Rgb;
use std::borrow::Cow;

/// The largest centred square, as ADM cuts it: halved with a box filter while the short side is at least twice `size`, then
/// resized so that the short side is `size`, then cut in the middle.
///
/// Reference behaviour: `center_crop_arr` of guided-diffusion, on Pillow's 8-bit arithmetic, bit for bit; also Python's
/// rounding of halves to even. A picture smaller than `size` is enlarged by the same rule.
///
/// # Shapes
/// Any picture; the result `[size, size, 3]`.
pub fn center_crop(picture: &Rgb, size: usize) -> Rgb {
    let mut current = Cow::Borrowed(picture);
    while current.width.min(current.height) >= 2 * size {
        current = Cow::Owned(resize(&current, current.width / 2, current.height / 2, Filter::Box));
    }
    let scale = size as f64 / current.width.min(current.height) as f64;
    let side = |n: usize| ((n as f64 * scale).round_ties_even() as usize).max(size);
    let resized = resize(&current, side(current.width), side(current.height), Filter::Bicubic);
    let (left, top) = ((resized.width - size) / 2, (resized.height - size) / 2);
    let rows = resized.pixels.chunks_exact(3 * resized.width).skip(top).take(size);
    let pixels = rows.flat_map(|row| row[3 * left..3 * (left + size)].iter().copied()).collect();
    Rgb { width: size, height: size, pixels }
}

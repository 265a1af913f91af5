//! Small pictures of numbers.

use anyhow::Result;
use image::{ExtendedColorType, ImageEncoder, Rgba, RgbaImage, codecs::png};

/// The blue of the figures; how strong it is says how large the value is.
const INK: [u8; 3] = [0x2f, 0x7f, 0xdf];

/// A picture whose pixel `(x, y)` is the ink at `value(x, y)` between 0 and 1; 0 is transparent, so that it sits on a
/// light page as well as on a dark one.
pub fn map(width: u32, height: u32, value: impl Fn(u32, u32) -> f64) -> RgbaImage {
    RgbaImage::from_fn(width, height, |x, y| {
        let alpha = (value(x, y).clamp(0.0, 1.0) * 255.0).round() as u8;
        Rgba([INK[0], INK[1], INK[2], alpha])
    })
}

/// The picture as PNG; the same pixels give the same bytes.
///
/// # Errors
/// When it has no pixels.
pub fn png(picture: &RgbaImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder =
        png::PngEncoder::new_with_quality(&mut bytes, png::CompressionType::Best, png::FilterType::Adaptive);
    encoder.write_image(picture, picture.width(), picture.height(), ExtendedColorType::Rgba8)?;
    Ok(bytes)
}

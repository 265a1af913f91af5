//! Small pictures of numbers.

use anyhow::Result;
use image::{ExtendedColorType, ImageEncoder, Pixel, Rgba, RgbaImage, codecs::png};

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

/// A colour without transparency.
pub type Colour = [u8; 3];

/// Lines and dots on nothing.
pub struct Drawing(RgbaImage);

impl Drawing {
    /// Pixels for each unit, so that thin lines stay smooth where a page scales them.
    const SCALE: f64 = 2.0;

    /// An empty one of this size in units.
    pub fn new(width: f64, height: f64) -> Self {
        let pixels = |units: f64| (units * Self::SCALE).ceil() as u32;
        Self(RgbaImage::new(pixels(width), pixels(height)))
    }

    /// A line with round ends.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), width: f64, colour: Colour) {
        let reach = width / 2.0;
        let low = (from.0.min(to.0) - reach, from.1.min(to.1) - reach);
        let high = (from.0.max(to.0) + reach, from.1.max(to.1) + reach);
        let along = (to.0 - from.0, to.1 - from.1);
        let length = (along.0.powi(2) + along.1.powi(2)).max(f64::MIN_POSITIVE);
        self.paint(low, high, colour, |x, y| {
            let place = ((x - from.0) * along.0 + (y - from.1) * along.1) / length;
            let place = place.clamp(0.0, 1.0);
            reach - (x - from.0 - along.0 * place).hypot(y - from.1 - along.1 * place)
        });
    }

    /// A filled circle.
    pub fn dot(&mut self, (x, y): (f64, f64), radius: f64, colour: Colour) {
        let (low, high) = ((x - radius, y - radius), (x + radius, y + radius));
        self.paint(low, high, colour, |a, b| radius - (a - x).hypot(b - y));
    }

    /// Covers pixels by how far inside a shape they are, in units.
    fn paint(&mut self, low: (f64, f64), high: (f64, f64), colour: Colour, inside: impl Fn(f64, f64) -> f64) {
        let range = |low: f64, high: f64, most: u32| {
            let first = (low * Self::SCALE - 1.0).max(0.0) as u32;
            first..((high * Self::SCALE + 2.0).max(0.0) as u32).min(most)
        };
        let (width, height) = self.0.dimensions();
        for y in range(low.1, high.1, height) {
            for x in range(low.0, high.0, width) {
                let centre = |pixel: u32| (f64::from(pixel) + 0.5) / Self::SCALE;
                let cover = (inside(centre(x), centre(y)) * Self::SCALE + 0.5).clamp(0.0, 1.0);
                let [r, g, b] = colour;
                self.0.get_pixel_mut(x, y).blend(&Rgba([r, g, b, (cover * 255.0).round() as u8]));
            }
        }
    }

    /// As PNG.
    ///
    /// # Errors
    /// When it has no pixels.
    pub fn png(&self) -> Result<Vec<u8>> {
        png(&self.0)
    }
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

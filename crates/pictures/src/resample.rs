//! Pillow's resampling of 8-bit pictures: one pass per axis, coefficients of 22 fractional bits, rounding after each pass.

use crate::rgb::Rgb;

/// Fractional bits of a coefficient: 8 bits are left for the pixel and 2 for overshoot in 32.
const PRECISION: u32 = 32 - 8 - 2;

/// The filters that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The mean of the pixels covered.
    Box,
    /// Keys' cubic with a = -0.5.
    Bicubic,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        match self {
            Self::Box => f64::from(x > -0.5 && x <= 0.5),
            Self::Bicubic => match x.abs() {
                x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                _ => 0.0,
            },
        }
    }
}

/// The picture at another size.
pub fn resize(picture: &Rgb, width: usize, height: usize, filter: Filter) -> Rgb {
    let mut out = picture.clone();
    if width != out.width {
        let taps = taps(out.width, width, filter);
        let rows = out.pixels.chunks_exact(3 * out.width);
        out.pixels = rows.flat_map(|row| across(row, &taps)).collect();
        out.width = width;
    }
    if height != out.height {
        let stride = 3 * out.width;
        let mut pixels = Vec::with_capacity(stride * height);
        let mut sums = vec![0i32; stride];
        for Tap { first, weights } in taps(out.height, height, filter) {
            sums.fill(1 << (PRECISION - 1));
            for (row, weight) in out.pixels[first * stride..].chunks_exact(stride).zip(&weights) {
                for (sum, &pixel) in sums.iter_mut().zip(row) {
                    *sum += i32::from(pixel) * weight;
                }
            }
            pixels.extend(sums.iter().map(|&sum| clip(sum)));
        }
        out.pixels = pixels;
        out.height = height;
    }
    out
}

fn across<'a>(row: &'a [u8], taps: &'a [Tap]) -> impl Iterator<Item = u8> + 'a {
    taps.iter().flat_map(move |tap| {
        let mut sums = [1i32 << (PRECISION - 1); 3];
        for (pixel, weight) in row[3 * tap.first..].chunks_exact(3).zip(&tap.weights) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(value) * weight;
            }
        }
        sums.map(clip)
    })
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// What one pixel of the result is made of.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

fn taps(from: usize, to: usize, filter: Filter) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    (0..to)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            // `as` cuts towards zero and stops at zero, as the reference does.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let weights: Vec<f64> =
                (first..end).map(|x| filter.weight((x as f64 - center + 0.5) * (1.0 / stretch))).collect();
            let total: f64 = weights.iter().sum();
            let fixed = |w: f64| {
                let w = if total == 0.0 { w } else { w / total } * f64::from(1 << PRECISION);
                (if w < 0.0 { w - 0.5 } else { w + 0.5 }) as i32
            };
            Tap { first, weights: weights.into_iter().map(fixed).collect() }
        })
        .collect()
}

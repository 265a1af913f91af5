//! ADM's centre crop, with Pillow's resampling to the grey level.

/// An 8-bit RGB picture.
pub struct Rgb {
    /// `[H, W, 3]`.
    pub bytes: Vec<u8>,
    /// Height.
    pub height: usize,
    /// Width.
    pub width: usize,
}

/// Halves with BOX while the shorter side is at least twice `side`, then scales with BICUBIC and crops the middle.
pub fn adm_crop(mut picture: Rgb, side: usize) -> Rgb {
    while picture.height.min(picture.width) >= 2 * side {
        let (h, w) = (picture.height / 2, picture.width / 2);
        picture = resample(&picture, h, w, 0.5, |x| f64::from(u8::from(x > -0.5 && x <= 0.5)));
    }
    let scale = side as f64 / picture.height.min(picture.width) as f64;
    let scaled = |n: usize| (n as f64 * scale).round_ties_even() as usize;
    let (h, w) = (scaled(picture.height), scaled(picture.width));
    let picture = resample(&picture, h, w, 2.0, bicubic);
    let (top, left) = ((h - side) / 2, (w - side) / 2);
    let rows = (top..top + side).flat_map(|y| &picture.bytes[(y * w + left) * 3..][..side * 3]);
    Rgb { bytes: rows.copied().collect(), height: side, width: side }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Pillow's two passes in fixed point, across and then down.
fn resample(picture: &Rgb, height: usize, width: usize, support: f64, filter: fn(f64) -> f64) -> Rgb {
    const BITS: u32 = 32 - 8 - 2;
    let weights = |from: usize, to: usize| -> Vec<(usize, Vec<i64>)> {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let reach = support * stretch;
        let weigh = |i: usize| {
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let last = ((centre + reach + 0.5) as usize).min(from);
            let raw: Vec<f64> = (first..last).map(|x| filter((x as f64 - centre + 0.5) / stretch)).collect();
            let sum: f64 = raw.iter().sum();
            let fixed = raw.iter().map(|w| (w / sum * f64::from(1u32 << BITS)).round() as i64);
            (first, fixed.collect())
        };
        (0..to).map(weigh).collect()
    };
    let clip = |sum: i64| ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8;
    let mut across = vec![0u8; picture.height * width * 3];
    if width == picture.width {
        across.copy_from_slice(&picture.bytes);
    } else {
        let weights = weights(picture.width, width);
        let lines = picture.bytes.chunks_exact(picture.width * 3).zip(across.chunks_exact_mut(width * 3));
        for (line, out) in lines {
            for (x, (first, weights)) in weights.iter().enumerate() {
                for c in 0..3 {
                    let taps =
                        weights.iter().enumerate().map(|(k, w)| w * i64::from(line[(first + k) * 3 + c]));
                    out[x * 3 + c] = clip(taps.sum());
                }
            }
        }
    }
    if height == picture.height {
        return Rgb { bytes: across, height, width };
    }
    let mut down = vec![0u8; height * width * 3];
    for (line, (first, weights)) in down.chunks_exact_mut(width * 3).zip(weights(picture.height, height)) {
        for (x, out) in line.iter_mut().enumerate() {
            let taps =
                weights.iter().enumerate().map(|(k, w)| w * i64::from(across[(first + k) * width * 3 + x]));
            *out = clip(taps.sum());
        }
    }
    Rgb { bytes: down, height, width }
}

//! From bytes to what the network eats: 299 × 299, scaled to about ±1.

use anyhow::{Result, ensure};
use stage::choice;
use tch::{Kind, Tensor};

/// Side of the network's input.
pub const INPUT_SIZE: usize = 299;

choice! {
    /// How pictures come to 299 × 299 and to the network's range.
    pub enum Resize {
        /// The frozen TensorFlow graph: bilinear without half-pixel centres, `(x - 128) / 128`.
        Adm = "adm",
        /// pytorch-fid: `x / 255`, bilinear with half-pixel centres and without antialias, `2x - 1`.
        PytorchFid = "pytorch-fid",
        /// clean-fid: Pillow's bicubic in f32 with antialias, cut to 0…255, `(x - 128) / 128`.
        CleanFid = "clean-fid",
    }
}

/// Pictures of one size, 8-bit RGB.
pub struct RawPictures<'a> {
    /// `[N, H, W, 3]`, row-major.
    pub bytes: &'a [u8],
    /// Height and width.
    pub size: [usize; 2],
}

/// Resizes and scales pictures on `threads` threads; the result does not depend on how many there are.
///
/// # Shapes
/// Returns `[N, 3, 299, 299]`, f32, channels last in memory.
///
/// # Errors
/// When the bytes are no whole number of pictures, or one is empty.
pub fn prepare(pictures: &RawPictures, resize: Resize, threads: usize) -> Result<Tensor> {
    let [height, width] = pictures.size;
    let one = height * width * 3;
    ensure!(
        one > 0 && pictures.bytes.len().is_multiple_of(one),
        "{} bytes are no pictures of {width} × {height}",
        { pictures.bytes.len() }
    );
    let count = pictures.bytes.len() / one;
    let mut out = vec![0f32; count * INPUT_SIZE * INPUT_SIZE * 3];
    let share = count.div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let parts =
            pictures.bytes.chunks(share * one).zip(out.chunks_mut(share * INPUT_SIZE * INPUT_SIZE * 3));
        for (bytes, out) in parts {
            scope.spawn(move || {
                for (picture, out) in bytes.chunks(one).zip(out.chunks_mut(INPUT_SIZE * INPUT_SIZE * 3)) {
                    let to = [INPUT_SIZE, INPUT_SIZE];
                    match resize {
                        Resize::Adm => bilinear_tf1(picture, [height, width], to, out),
                        Resize::PytorchFid => bilinear_half_pixel(picture, [height, width], to, out),
                        Resize::CleanFid => bicubic_antialias(picture, [height, width], to, out),
                    }
                    match resize {
                        Resize::Adm | Resize::CleanFid => {
                            out.iter_mut().for_each(|x| *x = (*x - 128.0) * 0.007_812_5);
                        }
                        Resize::PytorchFid => out.iter_mut().for_each(|x| *x = 2.0 * *x - 1.0),
                    }
                }
            });
        }
    });
    let side = INPUT_SIZE as i64;
    let bytes: &[u8] = as_bytes(&out);
    let nhwc = Tensor::f_from_data_size(bytes, &[count as i64, side, side, 3], Kind::Float)?;
    Ok(nhwc.f_permute([0, 3, 1, 2])?)
}

fn as_bytes(values: &[f32]) -> &[u8] {
    // SAFETY: every byte of an f32 is initialised, and u8 has no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), std::mem::size_of_val(values)) }
}

/// TensorFlow 1's `ResizeBilinear` with `align_corners=False`: source position `i · (in / out)`, in f32 throughout.
///
/// # Shapes
/// `picture` is `[H, W, 3]` of size `from`, `out` `[H', W', 3]` of size `to`.
pub fn bilinear_tf1(picture: &[u8], from: [usize; 2], to: [usize; 2], out: &mut [f32]) {
    let columns = positions(from[1], to[1]);
    // A source row, interpolated along its length.
    let stretch = |row: usize, line: &mut [f32]| {
        let source = &picture[row * from[1] * 3..][..from[1] * 3];
        for (pixel, &(low, high, share)) in line.chunks_exact_mut(3).zip(&columns) {
            for (channel, value) in pixel.iter_mut().enumerate() {
                let left = f32::from(source[low * 3 + channel]);
                let right = f32::from(source[high * 3 + channel]);
                *value = left + (right - left) * share;
            }
        }
    };
    let (mut top, mut bottom) = (vec![0f32; to[1] * 3], vec![0f32; to[1] * 3]);
    let (mut in_top, mut in_bottom) = (usize::MAX, usize::MAX);
    for (&(low, high, share), line) in positions(from[0], to[0]).iter().zip(out.chunks_exact_mut(to[1] * 3)) {
        if in_bottom == low && in_top != low {
            std::mem::swap(&mut top, &mut bottom);
            std::mem::swap(&mut in_top, &mut in_bottom);
        }
        if in_top != low {
            stretch(low, &mut top);
            in_top = low;
        }
        if in_bottom != high {
            stretch(high, &mut bottom);
            in_bottom = high;
        }
        for ((value, &above), &below) in line.iter_mut().zip(&top).zip(&bottom) {
            *value = above + (below - above) * share;
        }
    }
}

/// For every output index the two source indices and the share of the second.
fn positions(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f32 / to as f32;
    let position = |i| {
        let p = i as f32 * scale;
        let low = (p.floor() as usize).min(from - 1);
        (low, (low + 1).min(from - 1), p - low as f32)
    };
    (0..to).map(position).collect()
}

/// torch's `interpolate(mode="bilinear", align_corners=False)` of `x / 255`.
///
/// # Shapes
/// As [`bilinear_tf1`].
pub fn bilinear_half_pixel(picture: &[u8], from: [usize; 2], to: [usize; 2], out: &mut [f32]) {
    let positions = |from: usize, to: usize| -> Vec<(usize, usize, f32)> {
        let scale = from as f32 / to as f32;
        let position = |i| {
            let p = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
            let low = (p as usize).min(from - 1);
            (low, (low + 1).min(from - 1), p - low as f32)
        };
        (0..to).map(position).collect()
    };
    let columns = positions(from[1], to[1]);
    let value = |y: usize, x: usize, c: usize| f32::from(picture[(y * from[1] + x) * 3 + c]) / 255.0;
    for ((top, bottom, down), line) in
        positions(from[0], to[0]).into_iter().zip(out.chunks_exact_mut(to[1] * 3))
    {
        for (pixel, &(left, right, along)) in line.chunks_exact_mut(3).zip(&columns) {
            for (c, out) in pixel.iter_mut().enumerate() {
                let above = (1.0 - along) * value(top, left, c) + along * value(top, right, c);
                let below = (1.0 - along) * value(bottom, left, c) + along * value(bottom, right, c);
                *out = (1.0 - down) * above + down * below;
            }
        }
    }
}

/// Pillow's `resize(BICUBIC)` of one f32 channel after the other, cut to 0…255 as clean-fid does.
///
/// # Shapes
/// As [`bilinear_tf1`].
pub fn bicubic_antialias(picture: &[u8], from: [usize; 2], to: [usize; 2], out: &mut [f32]) {
    let mut across = vec![0f32; from[0] * to[1] * 3];
    let columns = cubic_taps(from[1], to[1]);
    for (line, source) in across.chunks_exact_mut(to[1] * 3).zip(picture.chunks_exact(from[1] * 3)) {
        for (pixel, (first, weights)) in line.chunks_exact_mut(3).zip(&columns) {
            for (c, out) in pixel.iter_mut().enumerate() {
                let taps =
                    weights.iter().enumerate().map(|(k, w)| w * f64::from(source[(first + k) * 3 + c]));
                *out = taps.sum::<f64>() as f32;
            }
        }
    }
    for (line, (first, weights)) in out.chunks_exact_mut(to[1] * 3).zip(cubic_taps(from[0], to[0])) {
        for (x, out) in line.iter_mut().enumerate() {
            let taps =
                weights.iter().enumerate().map(|(k, w)| w * f64::from(across[(first + k) * to[1] * 3 + x]));
            *out = (taps.sum::<f64>() as f32).clamp(0.0, 255.0);
        }
    }
}

/// For every output index the first source index and the weights from there on, which sum to one.
fn cubic_taps(from: usize, to: usize) -> Vec<(usize, Vec<f64>)> {
    const REACH: f64 = 2.0;
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let taps = |i: usize| {
        if from == to {
            return (i, vec![1.0]);
        }
        let centre = (i as f64 + 0.5) * scale;
        let first = (centre - REACH * stretch + 0.5).max(0.0) as usize;
        let end = ((centre + REACH * stretch + 0.5) as usize).min(from);
        let raw: Vec<f64> = (first..end).map(|x| keys_cubic((x as f64 - centre + 0.5) / stretch)).collect();
        let sum: f64 = raw.iter().sum();
        (first, raw.into_iter().map(|w| w / sum).collect())
    };
    (0..to).map(taps).collect()
}

/// Keys' cubic with a = -1/2.
fn keys_cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    match x.abs() {
        x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

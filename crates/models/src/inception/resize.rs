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
    }
}

/// Pictures of one size, 8-bit RGB.
pub struct Pictures<'a> {
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
pub fn prepare(pictures: &Pictures, resize: Resize, threads: usize) -> Result<Tensor> {
    let [height, width] = pictures.size;
    let one = height * width * 3;
    ensure!(one > 0 && pictures.bytes.len() % one == 0, "{} bytes are no pictures of {width} × {height}", {
        pictures.bytes.len()
    });
    let count = pictures.bytes.len() / one;
    let mut out = vec![0f32; count * INPUT_SIZE * INPUT_SIZE * 3];
    let share = count.div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let parts =
            pictures.bytes.chunks(share * one).zip(out.chunks_mut(share * INPUT_SIZE * INPUT_SIZE * 3));
        for (bytes, out) in parts {
            scope.spawn(move || {
                for (picture, out) in bytes.chunks(one).zip(out.chunks_mut(INPUT_SIZE * INPUT_SIZE * 3)) {
                    match resize {
                        Resize::Adm => {
                            bilinear_tf1(picture, [height, width], [INPUT_SIZE, INPUT_SIZE], out);
                            out.iter_mut().for_each(|x| *x = (*x - 128.0) * 0.007_812_5);
                        }
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

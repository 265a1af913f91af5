//! Half precision as TensorFlow computes it on a CPU, held in f32.

use super::Arithmetic;
use anyhow::Result;
use tch::{Kind, Tensor};

/// Points, norms, products and every step rounded to half precision; products are summed in single.
pub(crate) struct Half;

impl Arithmetic for Half {
    type T = f32;

    fn operand(points: &Tensor) -> Result<Tensor> {
        Ok(points.f_to_kind(Kind::Half)?.f_to_kind(Kind::Float)?)
    }

    fn norms(points: &Tensor) -> Result<Tensor> {
        let halves = points.f_to_kind(Kind::Half)?;
        Ok(row_sums(&halves.f_mul(&halves)?)?.f_to_kind(Kind::Float)?)
    }

    /// `f16(f16(|u|² - f16(2 f16(u·v))) + |v|²)`.
    fn distance(u: f32, product: f32, v: f32) -> f32 {
        round(round(u - round(2.0 * round(product))) + v)
    }
}

/// To the nearest half-precision number, ties to even; what is too large becomes infinite.
fn round(x: f32) -> f32 {
    const LARGEST: f32 = 65504.0;
    const LEAST_NORMAL: u32 = 0x3880_0000; // 2^-14
    let bits = x.to_bits();
    let (sign, size) = (bits & 0x8000_0000, bits & 0x7fff_ffff);
    // 13 bits of the fraction go.
    let normal = f32::from_bits((size + 0x0fff + ((size >> 13) & 1)) & !0x1fff);
    // Below, the spacing is 2^-24, which is that of f32 beside one half.
    let small = (f32::from_bits(size) + 0.5) - 0.5;
    let rounded = if size < LEAST_NORMAL { small } else { normal };
    let rounded = if rounded > LARGEST { f32::INFINITY } else { rounded };
    f32::from_bits(rounded.to_bits() | sign)
}

/// Lanes of TensorFlow's half-precision sums on a CPU.
const LANES: i64 = 8;
/// Rows longer than this are split in two before they are summed.
const LONGEST_SUM: i64 = 8 * 200;

/// Row sums as TensorFlow adds them on a CPU, in eight f16 lanes.
///
/// # Shapes
/// `squares`: `[N, D]` f16; returns `[N]` f16.
fn row_sums(squares: &Tensor) -> Result<Tensor> {
    let length = squares.size()[1];
    if length <= LONGEST_SUM {
        return row_sum(squares);
    }
    let half = (length + 1) / 2;
    let first = (half + LANES - 1) / LANES * LANES;
    let left = row_sums(&squares.f_narrow(1, 0, first)?)?;
    let right = row_sums(&squares.f_narrow(1, first, length - first)?)?;
    Ok(left.f_add(&right)?)
}

fn row_sum(squares: &Tensor) -> Result<Tensor> {
    let (count, length) = squares.size2()?;
    let zeros = |shape: &[i64]| Tensor::f_zeros(shape, (Kind::Half, squares.device()));
    let packet = |start: i64| squares.f_narrow(1, start, LANES);
    let in_packets = length / LANES * LANES;
    // Four accumulators for as long as four packets remain; short rows have one.
    let unrolled = if length >= 8 * LANES { length / (4 * LANES) * (4 * LANES) } else { 0 };
    let mut accumulators: Vec<Tensor> = Vec::new();
    for lane in 0..4 {
        let mut sum = zeros(&[count, LANES])?;
        for start in (0..unrolled).step_by(4 * LANES as usize) {
            sum = sum.f_add(&packet(start + lane * LANES)?)?;
        }
        accumulators.push(sum);
    }
    let mut sum = zeros(&[count, LANES])?;
    for accumulator in &accumulators {
        sum = sum.f_add(accumulator)?;
    }
    for start in (unrolled..in_packets).step_by(LANES as usize) {
        sum = sum.f_add(&packet(start)?)?;
    }
    let mut tail = zeros(&[count])?;
    for column in in_packets..length {
        tail = tail.f_add(&squares.f_select(1, column)?)?;
    }
    let lanes = sum.f_to_kind(Kind::Float)?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
    Ok(lanes.f_to_kind(Kind::Half)?.f_add(&tail)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libtorch's own conversion, on numbers of every size and on those halfway between two.
    #[test]
    fn rounding_is_that_of_the_type() {
        let mut values = vec![0.0f32, 65519.9, 65520.0, -65520.0, 1e30, 2f32.powi(-25), 3.0 * 2f32.powi(-25)];
        for exponent in 100..145u32 {
            for fraction in (0..1 << 23).step_by(4093).chain([0x1000, 0x3000, 0x0fff, 0x1001]) {
                values.push(f32::from_bits(exponent << 23 | fraction));
                values.push(-f32::from_bits(exponent << 23 | fraction));
            }
        }
        let theirs = Tensor::from_slice(&values).to_kind(Kind::Half).to_kind(Kind::Float);
        let theirs = Vec::<f32>::try_from(theirs).unwrap();
        for (x, theirs) in values.iter().zip(theirs) {
            assert_eq!(round(*x), theirs, "{x}");
        }
        assert!(round(f32::INFINITY - f32::INFINITY).is_nan());
    }
}

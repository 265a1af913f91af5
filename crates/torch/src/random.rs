//! Tensors of random numbers that depend on (seed, purpose, index) alone.

use rayon::prelude::*;
use rng::Stream;
use std::ops::Range;
use tch::Tensor;

/// Numbers that one thread fills at a time; even, because normal numbers are drawn in pairs.
const CHUNK: usize = 1 << 14;

/// Uniform numbers in [0, 1), f32 on the CPU.
///
/// # Shapes
/// `shape`.
pub fn uniform(seed: u64, purpose: &str, index: u64, shape: &[i64]) -> Tensor {
    let mut stream = Stream::new(seed, purpose, index);
    // 24 bits, so that rounding to f32 never gives 1.
    let values: Vec<f32> =
        (0..length(shape)).map(|_| (stream.bits() >> 40) as f32 / (1u32 << 24) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Standard normal numbers, f32 on the CPU.
///
/// # Shapes
/// `shape`.
pub fn normal(seed: u64, purpose: &str, index: u64, shape: &[i64]) -> Tensor {
    normal_rows(seed, purpose, index, shape, 0..shape.first().map_or(0, |&rows| rows as usize))
}

/// These rows of what [`normal`] gives for `shape`, drawn without the others and on all cores.
///
/// # Shapes
/// `shape`, its first side being `rows`' length.
pub fn normal_rows(seed: u64, purpose: &str, index: u64, shape: &[i64], rows: Range<usize>) -> Tensor {
    let width = length(&shape[1..]);
    let stream = Stream::new(seed, purpose, index);
    let shape = [&[rows.len() as i64], &shape[1..]].concat();
    // A pair that the rows cut in two is drawn whole.
    let first = rows.start * width / 2 * 2;
    let mut values = vec![0f32; rows.end * width - first];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(i, chunk)| {
        // A number costs a draw: two for a pair.
        stream.skip((first + i * CHUNK) as u64).fill_normal(chunk);
    });
    Tensor::from_slice(&values[rows.start * width - first..]).view(shape.as_slice())
}

/// Uniform integers in `0..below`, i64 on the CPU.
///
/// # Shapes
/// `shape`.
pub fn integers(seed: u64, purpose: &str, index: u64, below: i64, shape: &[i64]) -> Tensor {
    let mut stream = Stream::new(seed, purpose, index);
    let values: Vec<i64> = (0..length(shape)).map(|_| stream.below(below.max(1) as u64) as i64).collect();
    Tensor::from_slice(&values).view(shape)
}

fn length(shape: &[i64]) -> usize {
    shape.iter().product::<i64>().max(0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_ranges() {
        let x = normal(1, "test", 0, &[500, 200]);
        let (std, mean) = (x.std(true).double_value(&[]), x.mean(None).double_value(&[]));
        let fourth = x.pow_tensor_scalar(4).mean(None).double_value(&[]);
        assert!(
            mean.abs() < 0.01 && (std - 1.0).abs() < 0.01 && (fourth - 3.0).abs() < 0.15,
            "{mean} {std} {fourth}"
        );
        let u = uniform(1, "test", 0, &[100_000]);
        assert!((u.mean(None).double_value(&[]) - 0.5).abs() < 0.005);
        assert!(u.min().double_value(&[]) >= 0.0 && u.max().double_value(&[]) < 1.0);
        let i = integers(1, "test", 0, 10, &[10_000]);
        let counts = i.bincount::<Tensor>(None, 10);
        assert!(counts.min().int64_value(&[]) > 850 && counts.max().int64_value(&[]) < 1150);
    }

    #[test]
    fn rows_are_those_of_the_whole() {
        // Rows of odd length, so that their edges cut pairs; more of them than one thread fills.
        let shape = [CHUNK as i64 / 4, 3, 3];
        let mut sequential = vec![0f32; length(&shape)];
        Stream::new(5, "rows", 2).fill_normal(&mut sequential);
        let whole = normal(5, "rows", 2, &shape);
        assert_eq!(whole, Tensor::from_slice(&sequential).view(shape));
        for rows in [0..1usize, 1..2, 3..8, 1001..2500] {
            let part = normal_rows(5, "rows", 2, &shape, rows.clone());
            assert_eq!(part, whole.narrow(0, rows.start as i64, rows.len() as i64));
        }
    }
}

//! Random numbers that depend on (seed, purpose, index) alone, never on what was drawn before.
//!
//! SplitMix64 in counter mode: the three parts are mixed into a key, and number `i` of a stream is the mixed
//! `key + i * GAMMA`. A step of a training or an image of a sampling run names its own stream, so a resumed run,
//! another batch size or another order gives the same numbers.

use rayon::prelude::*;
use std::f64::consts::TAU;
use std::ops::Range;
use tch::Tensor;

/// Numbers that one thread fills at a time; even, because normal numbers are drawn in pairs.
const CHUNK: usize = 1 << 14;

/// The odd constant of SplitMix64, 2^64 divided by the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Stream {
    key: u64,
    drawn: u64,
}

impl Stream {
    /// The stream of `(seed, purpose, index)`.
    pub fn new(seed: u64, purpose: &str, index: u64) -> Self {
        let mut key = mix(seed.wrapping_add(GAMMA));
        for chunk in purpose.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            key = mix(key ^ mix(u64::from_le_bytes(word).wrapping_add(GAMMA)));
        }
        // The length keeps "a" and "a\0" apart.
        key = mix(key ^ mix((purpose.len() as u64).wrapping_mul(GAMMA)));
        Self { key: mix(key ^ mix(index.wrapping_mul(GAMMA) ^ GAMMA)), drawn: 0 }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        mix(self.key.wrapping_add(self.drawn.wrapping_mul(GAMMA)))
    }

    /// The same stream `draws` draws of [`Stream::bits`] later, without making them.
    pub fn skip(&self, draws: u64) -> Self {
        Self { key: self.key, drawn: self.drawn.wrapping_add(draws) }
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Two independent standard normal numbers (Box and Muller).
    pub fn normal_pair(&mut self) -> (f64, f64) {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sine, cosine) = (TAU * self.uniform()).sin_cos();
        (radius * cosine, radius * sine)
    }

    /// Uniform integer in `0..below`; `below` is at least 1. Without bias (Lemire's multiplication, redrawn at the edge).
    pub fn below(&mut self, below: u64) -> u64 {
        let threshold = below.wrapping_neg() % below;
        loop {
            let wide = u128::from(self.bits()) * u128::from(below);
            if wide as u64 >= threshold {
                return (wide >> 64) as u64;
            }
        }
    }

    /// A uniform permutation of `0..length` (Fisher and Yates).
    pub fn permutation(&mut self, length: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..length).collect();
        for i in (1..length).rev() {
            order.swap(i, self.below(i as u64 + 1) as usize);
        }
        order
    }

    /// Fills a slice with standard normal numbers.
    pub fn fill_normal(&mut self, values: &mut [f32]) {
        for pair in values.chunks_mut(2) {
            let (a, b) = self.normal_pair();
            pair[0] = a as f32;
            if let Some(second) = pair.get_mut(1) {
                *second = b as f32;
            }
        }
    }
}

/// The output function of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

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
    fn streams_are_pinned() {
        // A change here changes every result of every study: never change it silently.
        let mut stream = Stream::new(7, "noise", 3);
        let bits = [stream.bits(), stream.bits()];
        let mut again = Stream::new(7, "noise", 3);
        assert_eq!(bits, [again.bits(), again.bits()]);
        assert_eq!(bits, PINNED);
        for other in [Stream::new(8, "noise", 3), Stream::new(7, "noisf", 3), Stream::new(7, "noise", 4)] {
            assert_ne!(other.clone().bits(), bits[0]);
        }
        assert_ne!(Stream::new(7, "a", 0).bits(), Stream::new(7, "a\0", 0).bits());
    }
    const PINNED: [u64; 2] = [0x5566_7180_88aa_b31b, 0x7d97_8981_133a_39bf];

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

    #[test]
    fn permutations_are_permutations() {
        let mut order = Stream::new(0, "p", 0).permutation(36);
        assert_ne!(order, (0..36).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..36).collect::<Vec<_>>());
    }
}

//! Random numbers that depend on (seed, purpose, index) alone, never on what was drawn before.
//!
//! SplitMix64 in counter mode: the three parts are mixed into a key, and number `i` of a stream is the mixed
//! `key + i * GAMMA`. A step of a training or an image of a sampling run names its own stream, so a resumed run,
//! another batch size or another order gives the same numbers.

mod ziggurat;

use std::f64::consts::TAU;

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

    /// The stream of the same three under another key, which takes the purpose byte by byte. Batches of latents are drawn by
    /// it: every training rests on these numbers, so it stays as it is.
    pub fn by_bytes(seed: u64, purpose: &str, index: u64) -> Self {
        let mut key = mix(seed.wrapping_add(GAMMA));
        for byte in purpose.bytes() {
            key = mix(key ^ u64::from(byte)).wrapping_add(GAMMA);
        }
        Self { key: mix(key ^ mix(index.wrapping_add(GAMMA))), drawn: 0 }
    }

    /// The next 64 random bits.
    #[inline]
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

    /// Uniform in (0, 1], a multiple of 2^-53.
    #[inline]
    fn above_zero(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64)
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
    pub fn permutation(&mut self, length: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..length).collect();
        for i in (1..length).rev() {
            order.swap(i as usize, self.below(u64::from(i) + 1) as usize);
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
#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
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
    fn streams_by_bytes_are_pinned_and_apart() {
        // A change here changes every batch of every training: never change it silently.
        let mut stream = Stream::by_bytes(7, "posterior", 3);
        assert_eq!([stream.bits(), stream.bits()], BY_BYTES);
        for (seed, purpose, index) in [(8, "posterior", 3), (7, "order", 3), (7, "posterior", 4)] {
            assert_ne!(Stream::by_bytes(seed, purpose, index).bits(), BY_BYTES[0]);
        }
        assert_ne!(Stream::new(7, "posterior", 3).bits(), BY_BYTES[0]);
    }
    const BY_BYTES: [u64; 2] = [8_363_621_419_376_129_962, 18_238_977_651_807_537_605];

    #[test]
    fn permutations_are_permutations() {
        let mut order = Stream::new(0, "p", 0).permutation(36);
        assert_ne!(order, (0..36).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..36).collect::<Vec<_>>());
    }
}

//! Random numbers that depend on (seed, purpose, index) alone: SplitMix64 in counter mode, normal numbers by the
//! ziggurat. Free of libtorch, and fast: the loader draws a number for every number of every latent.

use std::sync::LazyLock;

/// The odd constant of SplitMix64.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Stream {
    state: u64,
}

impl Stream {
    /// The stream of `(seed, purpose, index)`.
    pub fn new(seed: u64, purpose: &str, index: u64) -> Self {
        let mut key = mix(seed.wrapping_add(GAMMA));
        for byte in purpose.bytes() {
            key = mix(key ^ u64::from(byte)).wrapping_add(GAMMA);
        }
        Self { state: mix(key ^ mix(index.wrapping_add(GAMMA))) }
    }

    /// The next 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// Uniform in (0, 1].
    #[inline]
    fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform integer in `0..below`, without bias; `below` is at least 1.
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
    pub fn permutation(&mut self, length: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..length as u32).collect();
        for i in (1..length).rev() {
            order.swap(i, self.below(i as u64 + 1) as usize);
        }
        order
    }

    /// A standard normal number. Marsaglia and Tsang's ziggurat with Doornik's care for the low bits.
    #[inline]
    pub fn normal(&mut self) -> f64 {
        let zig = &*ZIGGURAT;
        loop {
            let bits = self.bits();
            let layer = (bits & 127) as usize;
            // 53 signed bits that the layer does not share.
            let u = (bits as i64 >> 11) as f64 * (1.0 / (1u64 << 52) as f64);
            if u.abs() < zig.ratio[layer] {
                return u * zig.x[layer];
            }
            if layer == 0 {
                return self.tail(u < 0.0);
            }
            let x = u * zig.x[layer];
            let density = |edge: f64| (-0.5 * (edge * edge - x * x)).exp();
            let (outer, inner) = (density(zig.x[layer]), density(zig.x[layer + 1]));
            if inner + self.uniform() * (outer - inner) < 1.0 {
                return x;
            }
        }
    }

    /// Beyond the last layer (Marsaglia's method for the tail).
    fn tail(&mut self, negative: bool) -> f64 {
        loop {
            let x = self.uniform().ln() / EDGE;
            let y = self.uniform().ln();
            if -2.0 * y >= x * x {
                return if negative { x - EDGE } else { EDGE - x };
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

/// Where the tail begins, and the area of each of the 128 layers (Doornik 2005, table 1).
const EDGE: f64 = 3.442_619_855_899;
const AREA: f64 = 9.912_563_035_262_17e-3;

struct Ziggurat {
    x: [f64; 129],
    ratio: [f64; 128],
}

static ZIGGURAT: LazyLock<Ziggurat> = LazyLock::new(|| {
    let mut x = [0.0; 129];
    let mut density = (-0.5 * EDGE * EDGE).exp();
    x[0] = AREA / density;
    x[1] = EDGE;
    for i in 2..128 {
        x[i] = (-2.0 * (AREA / x[i - 1] + density).ln()).sqrt();
        density = (-0.5 * x[i] * x[i]).exp();
    }
    Ziggurat { ratio: std::array::from_fn(|i| x[i + 1] / x[i]), x }
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_the_right_moments_and_tails() {
        let mut stream = Stream::new(1, "test", 0);
        let n = 1_000_000;
        let x: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let moment = |p: i32| x.iter().map(|v| v.powi(p)).sum::<f64>() / f64::from(n);
        // Five standard errors each.
        for (power, want, error) in
            [(1, 0.0, 1.0), (2, 1.0, 1.42), (3, 0.0, 3.88), (4, 3.0, 9.8), (6, 15.0, 101.0)]
        {
            assert!((moment(power) - want).abs() < 5.0 * error / 1000.0, "moment {power}: {}", moment(power));
        }
        let beyond = |edge: f64| x.iter().filter(|v| v.abs() > edge).count() as f64;
        for (edge, share) in [(1.0, 0.317_310_5), (2.0, 0.045_500_3), (3.0, 2.699_8e-3), (3.5, 4.652_6e-4)] {
            let want = share * f64::from(n);
            assert!((beyond(edge) - want).abs() < 5.0 * want.sqrt(), "beyond {edge}: {}", beyond(edge));
        }
    }

    #[test]
    fn streams_are_pinned_and_apart() {
        // A change here changes every batch of every training: never change it silently.
        let mut stream = Stream::new(7, "posterior", 3);
        assert_eq!([stream.bits(), stream.bits()], PINNED);
        for mut other in
            [Stream::new(8, "posterior", 3), Stream::new(7, "order", 3), Stream::new(7, "posterior", 4)]
        {
            assert_ne!(other.bits(), PINNED[0]);
        }
        let mut order = Stream::new(0, "order", 0).permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
    const PINNED: [u64; 2] = [8_363_621_419_376_129_962, 18_238_977_651_807_537_605];
}

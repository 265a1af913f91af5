//! Normal numbers by Marsaglia and Tsang's ziggurat, at one draw each but seldom.

use crate::Stream;
use std::sync::LazyLock;

impl Stream {
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
            if inner + self.above_zero() * (outer - inner) < 1.0 {
                return x;
            }
        }
    }

    /// Beyond the last layer (Marsaglia's method for the tail).
    fn tail(&mut self, negative: bool) -> f64 {
        loop {
            let x = self.above_zero().ln() / EDGE;
            let y = self.above_zero().ln();
            if -2.0 * y >= x * x {
                return if negative { x - EDGE } else { EDGE - x };
            }
        }
    }
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
}

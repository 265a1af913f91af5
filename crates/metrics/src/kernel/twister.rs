//! NumPy's legacy generator, for draws that other tools make too (Matsumoto & Nishimura 1998).

const LENGTH: usize = 624;
const SHIFT: usize = 397;

/// MT19937.
pub(super) struct Twister {
    state: [u32; LENGTH],
    next: usize,
}

impl Twister {
    /// `numpy.random.RandomState(seed)`.
    pub(super) fn new(seed: u32) -> Self {
        let mut state = [seed; LENGTH];
        for i in 1..LENGTH {
            let before = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: LENGTH }
    }

    fn bits(&mut self) -> u32 {
        if self.next == LENGTH {
            for i in 0..LENGTH {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % LENGTH] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + SHIFT) % LENGTH] ^ (y >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform in `0..=most`, by masking and drawing again.
    fn at_most(&mut self, most: u32) -> u32 {
        let mask = u32::MAX.checked_shr(most.leading_zeros()).unwrap_or(0);
        loop {
            let value = self.bits() & mask;
            if value <= most {
                return value;
            }
        }
    }

    /// `choice(count, size, replace=False)`: the start of a permutation.
    pub(super) fn choice(&mut self, count: usize, size: usize) -> Vec<i64> {
        let mut order: Vec<i64> = (0..count as i64).collect();
        for i in (1..count).rev() {
            order.swap(i, self.at_most(i as u32) as usize);
        }
        order.truncate(size);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generator's published check value: the 10,000th number after seed 5489.
    #[test]
    fn ten_thousandth_number() {
        let mut twister = Twister::new(5489);
        let last = (0..10_000).map(|_| twister.bits()).last();
        assert_eq!(last, Some(4_123_659_995));
    }
}

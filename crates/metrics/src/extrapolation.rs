//! FID∞: the Fréchet distance extrapolated to infinitely many samples (Chong & Forsyth 2020).

use crate::kernel::permutation;
use crate::{Moments, Statistics, frechet};
use anyhow::Result;
use stage::bad_input;
use tch::Tensor;

/// Sizes at which the distance is measured.
pub const SIZES: i64 = 10;
/// Seed of the order in which samples are taken.
pub const SEED: u32 = 2020;

/// A straight line through the distances over one by the number of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Extrapolation {
    /// Where the line meets zero: the distance of infinitely many samples.
    pub distance: f64,
    /// Standard error of that by the scatter of the points about the line. The sets are nested, so it is an indication, no
    /// confidence interval.
    pub error: f64,
    /// How many samples.
    pub sizes: Vec<i64>,
    /// The distance of so many.
    pub distances: Vec<f64>,
}

/// Distances of N/10, 2N/10, …, N of the samples, fitted by least squares over 1/N.
///
/// The sets are the beginnings of one random order (`numpy.random.RandomState(seed).permutation(N)`), so every sample is read
/// once. The reference stays as it is: its own bias, from being finite, is not removed.
///
/// # Shapes
/// `samples`: `[N, D]`.
///
/// # Errors
/// Bad input with fewer than 20 samples.
pub fn extrapolate(samples: &Tensor, reference: &Statistics, seed: u32) -> Result<Extrapolation> {
    let _guard = tch::no_grad_guard();
    let count = samples.size().first().copied().unwrap_or(0);
    if count < 2 * SIZES {
        bad_input!("{count} samples; to extrapolate takes at least {}", 2 * SIZES)
    }
    let order = Tensor::f_from_slice(&permutation(count as usize, seed))?;
    let sizes: Vec<i64> = (1..=SIZES).map(|i| i * count / SIZES).collect();
    let (mut moments, mut done) = (Moments::new(samples.size()[1]), 0);
    let mut distances = Vec::new();
    for &size in &sizes {
        let rows = order.f_narrow(0, done, size - done)?;
        moments.add(&samples.f_index_select(0, &rows)?)?;
        distances.push(frechet(&moments.copy()?.statistics()?, reference)?.distance);
        done = size;
    }
    let (distance, error) = intercept(&sizes, &distances);
    Ok(Extrapolation { distance, error, sizes, distances })
}

/// Of the line through `distances` over 1/`sizes`, with its standard error.
fn intercept(sizes: &[i64], distances: &[f64]) -> (f64, f64) {
    let n = sizes.len() as f64;
    let x: Vec<f64> = sizes.iter().map(|s| 1.0 / *s as f64).collect();
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, distances.iter().sum::<f64>() / n);
    let spread: f64 = x.iter().map(|x| (x - mean_x).powi(2)).sum();
    let both: f64 = x.iter().zip(distances).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let slope = both / spread;
    let at_zero = mean_y - slope * mean_x;
    let left: f64 = x.iter().zip(distances).map(|(x, y)| (y - at_zero - slope * x).powi(2)).sum();
    (at_zero, (left / (n - 2.0) * (1.0 / n + mean_x * mean_x / spread)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_exactly_and_its_error_is_that_of_the_textbook() {
        let sizes = [10, 20, 40, 50];
        let line: Vec<f64> = sizes.iter().map(|s| 3.0 + 7.0 / *s as f64).collect();
        let (at_zero, error) = intercept(&sizes, &line);
        assert!((at_zero - 3.0).abs() < 1e-12 && error < 1e-12);
        // By scipy.stats.linregress([0.1, 0.05, 0.025, 0.02], [3.8, 3.3, 3.2, 3.1]).
        let (at_zero, error) = intercept(&sizes, &[3.8, 3.3, 3.2, 3.1]);
        assert!(
            (at_zero - 2.940_590_979_782_271).abs() < 1e-9 && (error - 0.052_544_696_427_088).abs() < 1e-9,
            "{at_zero} {error}"
        );
    }
}

//! Density and coverage (Naeem et al. 2020), which outliers do not sway.

use crate::distances::{Double, Points, View, Visitor, ranges, scan};
use crate::manifold::{Blocks, radii};
use anyhow::Result;
use stage::bad_input;
use tch::Tensor;

/// The two numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DensityCoverage {
    /// Mean number of reference balls a sample lies in, over `k`; may exceed 1.
    pub density: f64,
    /// Share of reference points whose ball holds a sample.
    pub coverage: f64,
}

/// Density and coverage with radii of the `k`-th neighbour, in f64; comparisons are strict (reference behaviour).
///
/// # Shapes
/// `reference`: `[N, D]`, `samples`: `[M, D]`, on one device.
///
/// # Errors
/// Bad input when the widths differ, the reference has fewer than `k + 1` points or there is no sample.
pub fn density_coverage(reference: &Tensor, samples: &Tensor, k: i64) -> Result<DensityCoverage> {
    let _guard = tch::no_grad_guard();
    let (n, m) = (reference.size(), samples.size());
    if n.len() != 2 || m.len() != 2 || n[1] != m[1] {
        bad_input!("features of shapes {n:?} and {m:?} cannot be compared")
    }
    if n[0] <= k || m[0] == 0 {
        bad_input!("{} reference and {} sample pictures; {} and 1 are the least", n[0], m[0], k + 1)
    }
    let (reference, samples) = (Points::<Double>::new(reference)?, Points::<Double>::new(samples)?);
    let radii = radii(&reference, &reference, k as usize, Blocks::default())?;
    let make = || Count { radii: &radii, inside: 0, covered: vec![false; radii.len()] };
    let mut total = make();
    for rows in ranges(radii.len(), Blocks::default().rows) {
        for columns in ranges(samples.count(), Blocks::default().columns) {
            let seen = scan(&reference, rows.clone(), &samples, columns, View::There, &make)?;
            total.merge(seen.by);
        }
    }
    let covered = total.covered.iter().filter(|c| **c).count();
    Ok(DensityCoverage {
        density: total.inside as f64 / k as f64 / m[0] as f64,
        coverage: covered as f64 / n[0] as f64,
    })
}

/// Samples inside the reference's balls, and balls that hold one.
struct Count<'a> {
    radii: &'a [f64],
    inside: usize,
    covered: Vec<bool>,
}

impl Visitor<f64> for Count<'_> {
    fn row(&mut self, row: usize, _: usize, distances: &[f64], _: &[f64]) {
        let radius = self.radii[row];
        let inside = distances.iter().filter(|d| **d < radius).count();
        self.inside += inside;
        self.covered[row] |= inside > 0;
    }

    fn merge(&mut self, other: Self) {
        self.inside += other.inside;
        self.covered.iter_mut().zip(other.covered).for_each(|(a, b)| *a |= b);
    }
}

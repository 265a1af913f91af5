//! Density and coverage (Naeem et al. 2020), which outliers do not sway.

use crate::Distances;
use crate::manifold::{Blocks, Points, block, radii};
use anyhow::Result;
use stage::bad_input;
use tch::{Kind, Tensor};

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
/// `reference`: `[N, D]`, `samples`: `[M, D]`.
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
    let exact = Distances::Exact;
    let (reference, samples) = (Points::new(reference, exact)?, Points::new(samples, exact)?);
    let radii = radii(&reference, k, exact, Blocks::default())?.f_unsqueeze(1)?; // [N, 1]
    let tiles = block(&reference, &samples, exact, |first, d| {
        let inside = d.f_lt_tensor(&radii.f_narrow(0, first, d.size()[0])?)?; // [rows, M]
        let covered = inside.f_any_dim(1, false)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        Ok((inside.f_sum(Kind::Int64)?.f_int64_value(&[])?, covered))
    })?;
    let (inside, covered) = tiles.iter().fold((0, 0), |(a, b), (x, y)| (a + x, b + y));
    Ok(DensityCoverage {
        density: inside as f64 / k as f64 / m[0] as f64,
        coverage: covered as f64 / n[0] as f64,
    })
}

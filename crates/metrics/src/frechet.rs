//! The Fréchet distance of two Gaussians: FID and sFID.

use crate::Statistics;
use anyhow::Result;
use stage::bad_input;
use tch::{Kind, Tensor};

/// The distance and what it is made of.
#[derive(Clone, Debug)]
pub struct Frechet {
    /// `mean_term + traces - 2 · trace_root`. Slightly negative values are not clipped (reference behaviour).
    pub distance: f64,
    /// Squared distance of the means.
    pub mean_term: f64,
    /// Sum of the traces of both covariances.
    pub traces: f64,
    /// `tr (Σ₁ Σ₂)^½`.
    pub trace_root: f64,
    /// What a reader of the number should know.
    pub warning: Option<String>,
}

/// Below this ratio of the least to the greatest pivot a Cholesky factor is not trusted to tell rank from rounding.
const LEAST_PIVOT: f64 = 1e-6;

/// `|μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁ Σ₂)^½` (Heusel et al. 2017, Eq. 6).
///
/// The eigenvalues of `Σ₁ Σ₂` are those of the symmetric `A Σ₂ Aᵀ` for any `A` with `Aᵀ A = Σ₁`, so nothing is ever
/// complex. `A` is, in this order: the centred rows, where a set has fewer rows than dimensions; a Cholesky factor; the
/// eigenvectors with positive eigenvalues.
///
/// # Errors
/// Bad input when the two have different widths.
pub fn frechet(one: &Statistics, two: &Statistics) -> Result<Frechet> {
    if one.width() != two.width() {
        bad_input!("statistics of {} and of {} features cannot be compared", one.width(), two.width())
    }
    let mean_term = one.mean.f_sub(&two.mean)?.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?;
    let trace = |s: &Statistics| -> Result<f64> { Ok(s.covariance.f_trace()?.f_double_value(&[])?) };
    let traces = trace(one)? + trace(two)?;
    let (trace_root, warning) = if one.covariance.f_equal(&two.covariance)? {
        // (Σ Σ)^½ = Σ, to the last digit.
        (traces / 2.0, None)
    } else {
        trace_root(one, two)?
    };
    Ok(Frechet { distance: mean_term + traces - 2.0 * trace_root, mean_term, traces, trace_root, warning })
}

fn trace_root(one: &Statistics, two: &Statistics) -> Result<(f64, Option<String>)> {
    let shortest = [(one, two), (two, one)]
        .into_iter()
        .filter_map(|(a, b)| a.factor.as_ref().map(|f| (f, b)))
        .min_by_key(|(factor, _)| factor.size()[0]);
    if let Some((factor, other)) = shortest {
        let warning = format!(
            "{} pictures span fewer than the {} dimensions; the distance is exact but biased upwards",
            factor.size()[0],
            one.width()
        );
        return Ok((sum_of_roots(factor, &other.covariance)?, Some(warning)));
    }
    for (a, b) in [(one, two), (two, one)] {
        if let Some(factor) = cholesky(&a.covariance)? {
            return Ok((sum_of_roots(&factor, &b.covariance)?, None));
        }
    }
    let (factor, rank) = root_of_rank(&one.covariance)?;
    let warning = (rank < one.width())
        .then(|| format!("a covariance has rank {rank} of {}; its null space is left out", one.width()));
    let root = if rank == 0 { 0.0 } else { sum_of_roots(&factor, &two.covariance)? };
    Ok((root, warning))
}

/// Σ √λ over the eigenvalues of `A Σ Aᵀ`; those that rounding cannot tell from zero count as zero.
fn sum_of_roots(a: &Tensor, covariance: &Tensor) -> Result<f64> {
    let product = a.f_matmul(covariance)?.f_matmul(&a.f_tr()?)?;
    let product = product.f_add(&product.f_tr()?)?.f_mul_scalar(0.5)?;
    let values = product.f_linalg_eigvalsh("L")?;
    let floor = noise_floor(&values)?;
    let kept = values.f_where_self(&values.f_gt(floor)?, &values.f_zeros_like()?)?;
    Ok(kept.f_sqrt()?.f_sum(Kind::Double)?.f_double_value(&[])?)
}

fn noise_floor(values: &Tensor) -> Result<f64> {
    Ok(values.f_max()?.f_double_value(&[])?.max(0.0) * values.numel() as f64 * f64::EPSILON)
}

/// `A` upper triangular with `Aᵀ A = Σ`, if Σ is safely positive definite.
fn cholesky(covariance: &Tensor) -> Result<Option<Tensor>> {
    let (factor, info) = covariance.f_linalg_cholesky_ex(true, false)?;
    if info.f_int64_value(&[])? != 0 {
        return Ok(None);
    }
    let pivots = factor.f_diagonal(0, 0, 1)?.f_square()?;
    let least = pivots.f_min()?.f_double_value(&[])?;
    let greatest = pivots.f_max()?.f_double_value(&[])?;
    // Written so that NaN fails.
    Ok((least > LEAST_PIVOT * greatest).then_some(factor))
}

/// `A = Λ^½ Vᵀ` over the positive eigenvalues, and how many there are.
fn root_of_rank(covariance: &Tensor) -> Result<(Tensor, i64)> {
    let (values, vectors) = covariance.f_linalg_eigh("L")?;
    let floor = noise_floor(&values)?;
    let rank = values.f_gt(floor)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    let first = values.size()[0] - rank; // ascending
    let roots = values.f_narrow(0, first, rank)?.f_sqrt()?;
    let vectors = vectors.f_narrow(1, first, rank)?;
    Ok((vectors.f_mul(&roots)?.f_tr()?, rank))
}

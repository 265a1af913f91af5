//! KID (Bińkowski et al. 2018), on the subsets that torch-fidelity draws.

mod twister;

use anyhow::Result;
use stage::bad_input;
use tch::{Kind, Tensor};
use twister::Twister;

/// Subsets, as torch-fidelity.
pub const SUBSETS: usize = 100;
/// Pictures of a subset, as torch-fidelity.
pub const SUBSET_SIZE: usize = 1000;
/// Seed of the subsets, as torch-fidelity.
pub const SEED: u32 = 2020;

/// Mean and population standard deviation over subsets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kid {
    /// Unbiased; may fall below zero.
    pub mean: f64,
    /// Over the subsets.
    pub deviation: f64,
}

/// Unbiased squared maximum mean discrepancy with the kernel `(x·y / D + 1)³`, in f64.
///
/// # Shapes
/// `x`: `[M, D]`, `y`: `[N, D]`.
///
/// # Errors
/// Bad input when the widths differ or a set has fewer than two rows.
pub fn squared_mmd(x: &Tensor, y: &Tensor) -> Result<f64> {
    let _guard = tch::no_grad_guard();
    let (m, n) = (x.size(), y.size());
    if m.len() != 2 || n.len() != 2 || m[1] != n[1] || m[0] < 2 || n[0] < 2 {
        bad_input!("features of shapes {m:?} and {n:?} have no kernel distance")
    }
    let (x, y) = (x.f_to_kind(Kind::Double)?, y.f_to_kind(Kind::Double)?);
    let kernel = |a: &Tensor, b: &Tensor| -> Result<Tensor> {
        Ok(a.f_matmul(&b.f_tr()?)?.f_div_scalar(m[1] as f64)?.f_add_scalar(1.0)?.f_pow_tensor_scalar(3)?)
    };
    let total = |t: &Tensor| -> Result<f64> { Ok(t.f_sum(Kind::Double)?.f_double_value(&[])?) };
    // Without the diagonal, where a point meets itself.
    let within = |a: &Tensor| -> Result<f64> {
        let k = kernel(a, a)?;
        let count = a.size()[0] as f64;
        Ok((total(&k)? - k.f_trace()?.f_double_value(&[])?) / (count * (count - 1.0)))
    };
    let across = total(&kernel(&x, &y)?)? / (m[0] as f64 * n[0] as f64);
    Ok(within(&x)? + within(&y)? - 2.0 * across)
}

/// KID over random subsets: NumPy's `RandomState(seed)` draws, in turn, from the samples and from the reference.
///
/// # Shapes
/// `samples`: `[M, D]`, `reference`: `[N, D]`.
///
/// # Errors
/// Bad input when a set is smaller than a subset.
pub fn kid(samples: &Tensor, reference: &Tensor, subsets: usize, size: usize, seed: u32) -> Result<Kid> {
    let counts = [samples, reference].map(|t| t.size().first().map_or(0, |&n| n as usize));
    if counts.iter().any(|&n| n < size) || size < 2 || subsets == 0 {
        bad_input!("{} samples and {} reference pictures; KID draws {size} of each", counts[0], counts[1])
    }
    let mut values = Vec::with_capacity(subsets);
    for [of_samples, of_reference] in draw(counts, subsets, size, seed) {
        let x = samples.f_index_select(0, &Tensor::f_from_slice(&of_samples)?)?;
        let y = reference.f_index_select(0, &Tensor::f_from_slice(&of_reference)?)?;
        values.push(squared_mmd(&x, &y)?);
    }
    let mean = values.iter().sum::<f64>() / subsets as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / subsets as f64;
    Ok(Kid { mean, deviation: variance.sqrt() })
}

/// `numpy.random.RandomState(seed).permutation(count)`.
pub fn permutation(count: usize, seed: u32) -> Vec<i64> {
    Twister::new(seed).choice(count, count)
}

/// The rows of every subset, of the first and of the second set.
pub fn draw(
    counts: [usize; 2],
    subsets: usize,
    size: usize,
    seed: u32,
) -> impl Iterator<Item = [Vec<i64>; 2]> {
    let mut twister = Twister::new(seed);
    (0..subsets).map(move |_| counts.map(|count| twister.choice(count, size)))
}

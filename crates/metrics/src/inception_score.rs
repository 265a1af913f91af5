//! Inception Score, split as ADM's evaluator does.

use anyhow::Result;
use stage::bad_input;
use tch::{Kind, Tensor};

/// Rows of one split (reference behaviour).
pub const SPLIT_SIZE: i64 = 5000;

/// The unweighted mean over consecutive splits of `exp(mean KL(p(y|x) ‖ p(y)))`; the last split may be short.
///
/// Probabilities are the softmax in f32, sums are f64. Where a probability underflows to zero the score is NaN
/// (reference behaviour).
///
/// # Shapes
/// `logits`: `[N, C]`, f32, without the classifier's bias.
///
/// # Errors
/// Bad input without rows.
pub fn inception_score(logits: &Tensor, split_size: i64) -> Result<f64> {
    let count = logits.size().first().copied().unwrap_or(0);
    if count == 0 {
        bad_input!("the Inception Score of no pictures is not defined")
    }
    let mut scores = Vec::new();
    for start in (0..count).step_by(split_size.max(1) as usize) {
        let part = logits.f_narrow(0, start, split_size.min(count - start))?;
        let p = part.f_softmax(1, Kind::Float)?.f_to_kind(Kind::Double)?; // [n, C]
        let marginal = p.f_mean_dim([0i64].as_slice(), true, None::<Kind>)?; // [1, C]
        let divergence = p.f_mul(&p.f_log()?.f_sub(&marginal.f_log()?)?)?.f_sum(Kind::Double)?;
        scores.push((divergence.f_double_value(&[])? / part.size()[0] as f64).exp());
    }
    Ok(scores.iter().sum::<f64>() / scores.len() as f64)
}

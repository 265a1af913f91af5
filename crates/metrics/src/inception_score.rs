//! Inception Score, split as ADM's evaluator does.

use anyhow::Result;
use stage::bad_input;
use tch::{Kind, Tensor};

/// Rows of one split (reference behaviour).
pub const SPLIT_SIZE: i64 = 5000;

/// The score of rows that come batch by batch, without keeping them.
///
/// The unweighted mean over consecutive splits of `exp(mean KL(p(y|x) ‖ p(y)))`; the last split may be short. Of a split two
/// sums are enough: `Σ p log p` and `Σ p`. Probabilities are the softmax in f32, sums are f64. Where a probability underflows
/// to zero the score is NaN (reference behaviour).
pub struct InceptionScore {
    split_size: i64,
    scores: Vec<f64>,
    count: i64,
    /// `Σ p log p` of the split that is not full yet.
    certainty: f64,
    /// `Σ p` of it, `[C]`.
    sum: Option<Tensor>,
}

impl InceptionScore {
    /// Of splits of so many rows, at least one.
    pub fn new(split_size: i64) -> Self {
        Self { split_size: split_size.max(1), scores: Vec::new(), count: 0, certainty: 0.0, sum: None }
    }

    /// Adds rows.
    ///
    /// # Shapes
    /// `logits`: `[B, C]`, f32, without the classifier's bias.
    ///
    /// # Errors
    /// When they have another width than those before.
    pub fn add(&mut self, logits: &Tensor) -> Result<()> {
        let mut start = 0;
        while start < logits.size()[0] {
            let rows = (self.split_size - self.count).min(logits.size()[0] - start);
            let p = logits.f_narrow(0, start, rows)?.f_softmax(1, Kind::Float)?.f_to_kind(Kind::Double)?; // [n, C]
            self.certainty += p.f_mul(&p.f_log()?)?.f_sum(Kind::Double)?.f_double_value(&[])?;
            let sum = p.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Double)?; // [C]
            self.sum = Some(match self.sum.take() {
                Some(before) => before.f_add(&sum)?,
                None => sum,
            });
            self.count += rows;
            start += rows;
            if self.count == self.split_size {
                self.close()?;
            }
        }
        Ok(())
    }

    /// Whether no rows have come.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.scores.is_empty()
    }

    /// The score of all rows.
    ///
    /// # Errors
    /// Bad input without rows.
    pub fn finish(mut self) -> Result<f64> {
        self.close()?;
        if self.scores.is_empty() {
            bad_input!("the Inception Score of no pictures is not defined")
        }
        Ok(self.scores.iter().sum::<f64>() / self.scores.len() as f64)
    }

    fn close(&mut self) -> Result<()> {
        let Some(sum) = self.sum.take() else { return Ok(()) };
        let count = self.count as f64;
        let marginal = sum.f_div_scalar(count)?;
        let uncertainty = marginal.f_mul(&marginal.f_log()?)?.f_sum(Kind::Double)?.f_double_value(&[])?;
        self.scores.push((self.certainty / count - uncertainty).exp());
        (self.count, self.certainty) = (0, 0.0);
        Ok(())
    }
}

/// The score of rows at hand; see [`InceptionScore`].
///
/// # Shapes
/// `logits`: `[N, C]`, f32, without the classifier's bias.
///
/// # Errors
/// Bad input without rows.
pub fn inception_score(logits: &Tensor, split_size: i64) -> Result<f64> {
    let mut score = InceptionScore::new(split_size);
    score.add(logits)?;
    score.finish()
}

//! What training minimises: noise error, variance term, and how timesteps are weighted.

use super::schedule::PredictionType;
use super::steps::Diffusion;
use std::f64::consts::{LN_2, PI};
use tch::{Kind, Tensor};

/// How the noise error of a timestep counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weighting {
    /// 1 everywhere.
    Constant,
    /// min(SNR, γ) / SNR (Min-SNR-γ); for v min(SNR, γ) / (SNR + 1).
    MinSnr {
        /// γ, 5 in its paper.
        gamma: f64,
    },
    /// 1 / (k + SNR)^γ (P2).
    P2 {
        /// γ, 1 in its paper.
        gamma: f64,
        /// k, 1 in its paper.
        k: f64,
    },
    /// P2 as the reference's code collapses it: every image's error times the mean weight of the batch.
    P2AsPublished {
        /// γ.
        gamma: f64,
        /// k.
        k: f64,
    },
}

/// The losses of a batch, each `[B]`.
pub struct Losses {
    /// Mean squared error of what is predicted, before any weight.
    pub error: Tensor,
    /// The same, weighted.
    pub mse: Tensor,
    /// Variance term in bits per dimension; its gradient reaches the variance values only. 0 where there is no variance to learn,
    /// on a straight path.
    pub vb: Tensor,
}

/// Means over all but the batch.
fn mean(x: &Tensor) -> Tensor {
    x.flatten(1, -1).mean_dim([1i64].as_slice(), false, Kind::Float)
}

impl Diffusion {
    /// The losses of `output` at `x`, which is `start` with `noise` at `step`.
    ///
    /// # Shapes
    /// `start`, `x`, `noise` `[B, C, S, S]`, `output` `[B, 2C, S, S]`, `step` `[B]` i64.
    pub fn losses(
        &self,
        output: &Tensor,
        start: &Tensor,
        x: &Tensor,
        noise: &Tensor,
        step: &Tensor,
        weighting: Weighting,
    ) -> Losses {
        let at = self.at(step);
        let halves = output.chunk(2, 1);
        let error = mean(&(self.target(&at, start, noise) - &halves[0]).square());
        let mse = match weighting {
            Weighting::Constant => error.shallow_clone(),
            Weighting::MinSnr { gamma } => {
                let ratio = at.signal_to_noise();
                let least = ratio.clamp_max(gamma);
                &error * least / if self.prediction == PredictionType::V { ratio + 1.0 } else { ratio }
            }
            Weighting::P2 { gamma, k } => &error * (at.signal_to_noise() + k).pow_tensor_scalar(-gamma),
            Weighting::P2AsPublished { gamma, k } => {
                &error * (at.signal_to_noise() + k).pow_tensor_scalar(-gamma).mean(Kind::Float)
            }
        };
        if self.prediction == PredictionType::Velocity {
            return Losses { vb: error.detach().zeros_like(), error, mse };
        }
        let frozen = Tensor::cat(&[&halves[0].detach(), &halves[1]], 1);
        let guess = self.predict(&at, x, &frozen, false);
        let (true_mean, true_log_variance) = self.posterior(&at, start, x);
        let divergence = kl(&true_mean, &true_log_variance, &guess.mean, &guess.log_variance);
        let likelihood = log_likelihood(start, &guess.mean, &(&guess.log_variance * 0.5));
        let vb = mean(&(-likelihood)).where_self(&step.eq(0), &mean(&divergence)) / LN_2;
        Losses { error, mse, vb }
    }
}

/// Divergence of two normal distributions, elementwise, in nats.
fn kl(mean_a: &Tensor, log_a: &Tensor, mean_b: &Tensor, log_b: &Tensor) -> Tensor {
    let gap = (mean_a - mean_b).square() * (-log_b).exp();
    (log_b - log_a - 1.0 + (log_a - log_b).exp() + gap) * 0.5
}

/// Log likelihood of `x` under a normal distribution cut into bins of 2/255 over [−1, 1], the outermost open.
fn log_likelihood(x: &Tensor, mean: &Tensor, log_scale: &Tensor) -> Tensor {
    let centred = x - mean;
    let inverse = (-log_scale).exp();
    let upper = normal_cdf(&(&inverse * (&centred + 1.0 / 255.0)));
    let lower = normal_cdf(&(&inverse * (&centred - 1.0 / 255.0)));
    let log = |p: Tensor| p.clamp_min(1e-12).log();
    let inner = log(&upper - &lower);
    let highest = log(1.0 - lower);
    log(upper).where_self(&x.lt(-0.999), &highest.where_self(&x.gt(0.999), &inner))
}

/// The tanh approximation of the standard normal's distribution function.
fn normal_cdf(x: &Tensor) -> Tensor {
    ((x + x.pow_tensor_scalar(3) * 0.044715) * (2.0 / PI).sqrt()).tanh() * 0.5 + 0.5
}

/// The learning rate of uncertainty weighting's log variances (ANT, and the reference).
pub const LOG_VARIANCES_RATE: f64 = 0.025;

/// Uncertainty weighting over equal parts of the batch, one per timestep cluster:
/// Σ_c ½ (exp(−s_c) · L_c / K + s_c), `L_c` the mean over part `c` (reference behaviour).
///
/// # Shapes
/// `losses` `[B]`, `B` a multiple of `K`, in cluster order; `log_variances` s `[K]`; to a scalar.
pub fn uncertainty(losses: &Tensor, log_variances: &Tensor) -> Tensor {
    let clusters = log_variances.numel() as i64;
    let part = losses.view([clusters, -1]).mean_dim([1i64].as_slice(), false, Kind::Float) / clusters as f64;
    ((-log_variances).exp() * part + log_variances).sum(Kind::Float) * 0.5
}

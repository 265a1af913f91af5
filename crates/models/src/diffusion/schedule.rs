//! Noise schedules and everything that follows from them, in f64.

use super::respacing::Respacing;
use anyhow::Result;
use std::f64::consts::FRAC_PI_2;

stage::choice! {
    /// How the noise grows with the timestep.
    pub enum NoiseSchedule {
        /// Of improved DDPM; the paper's.
        Cosine = "cosine",
        /// Of DDPM; the reference's example script.
        Linear = "linear",
    }
}

stage::choice! {
    /// What a network's first half of output channels predicts.
    pub enum PredictionType {
        /// The noise ε; the paper's.
        Noise = "noise",
        /// v = √ᾱ ε − √(1 − ᾱ) x_0 (progressive distillation), on the same noise schedule.
        V = "v",
        /// The velocity ε − x_0 of rectified flow, on the straight path x = (1 − τ) x_0 + τ ε (SiT's linear path) in place of a noise
        /// schedule; τ = (t + 1) / 1000 at timestep t.
        Velocity = "velocity",
    }
}

impl PredictionType {
    /// Whether it is the usual one.
    pub fn is_noise(&self) -> bool {
        *self == Self::Noise
    }
}

impl Default for PredictionType {
    /// The paper's.
    fn default() -> Self {
        Self::Noise
    }
}

/// No step of the cosine curve adds more noise than this.
const MAX_BETA: f64 = 0.999;

impl NoiseSchedule {
    /// β of every one of `timesteps` steps.
    pub fn betas(self, timesteps: usize) -> Vec<f64> {
        let last = timesteps as f64;
        match self {
            Self::Cosine => {
                let kept = |s: f64| ((s + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2);
                (0..timesteps)
                    .map(|i| (1.0 - kept((i + 1) as f64 / last) / kept(i as f64 / last)).min(MAX_BETA))
                    .collect()
            }
            Self::Linear => {
                let scale = 1000.0 / last;
                let (low, high) = (scale * 1e-4, scale * 0.02);
                let step = (high - low) / (last - 1.0).max(1.0);
                (0..timesteps).map(|i| low + step * i as f64).collect()
            }
        }
    }
}

/// The tables of a process, perhaps of fewer steps than the network was trained for.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The timestep that the network is told at each step.
    pub timestep_map: Vec<i64>,
    /// Noise variance added by each step.
    pub betas: Vec<f64>,
    /// ᾱ, the share of the signal's variance left after each step.
    pub alphas_cumprod: Vec<f64>,
    /// ᾱ of the step before; 1 at the first.
    pub alphas_cumprod_prev: Vec<f64>,
    /// ᾱ of the step after; 0 at the last.
    pub alphas_cumprod_next: Vec<f64>,
    /// Variance of the posterior q(x_{t−1} | x_t, x_0).
    pub posterior_variance: Vec<f64>,
    /// Its logarithm, the first element replaced by the second (the first is −∞).
    pub posterior_log_variance: Vec<f64>,
    /// Weight of x_0 in the posterior's mean.
    pub posterior_start: Vec<f64>,
    /// Weight of x_t in the posterior's mean.
    pub posterior_current: Vec<f64>,
}

impl Schedule {
    /// A curve over `timesteps` steps, of which `respacing` keeps some.
    ///
    /// # Errors
    /// Bad input when the respacing does not fit.
    pub fn new(curve: NoiseSchedule, timesteps: usize, respacing: &Respacing) -> Result<Self> {
        let mut signal = 1.0;
        let all: Vec<f64> = (curve.betas(timesteps).iter())
            .map(|beta| {
                signal *= 1.0 - beta;
                signal
            })
            .collect();
        let kept = respacing.kept(timesteps)?;
        let mut previous = 1.0;
        let betas = kept.iter().map(|&t| {
            let beta = 1.0 - all[t] / previous;
            previous = all[t];
            beta
        });
        Ok(Self::from_betas(betas.collect(), kept.iter().map(|&t| t as i64).collect()))
    }

    fn from_betas(betas: Vec<f64>, timestep_map: Vec<i64>) -> Self {
        let mut signal = 1.0;
        let cumulative: Vec<f64> = (betas.iter())
            .map(|beta| {
                signal *= 1.0 - beta;
                signal
            })
            .collect();
        let before: Vec<f64> =
            std::iter::once(1.0).chain(cumulative.iter().copied()).take(betas.len()).collect();
        let after: Vec<f64> = cumulative.iter().skip(1).copied().chain([0.0]).collect();
        let steps = || betas.iter().zip(&cumulative).zip(&before).map(|((b, a), p)| (*b, *a, *p));
        let variance: Vec<f64> = steps().map(|(b, a, p)| b * (1.0 - p) / (1.0 - a)).collect();
        let first = variance.get(1).or(variance.first()).copied();
        let clipped = first.into_iter().chain(variance.iter().skip(1).copied()).map(f64::ln);
        Self {
            posterior_log_variance: clipped.collect(),
            posterior_start: steps().map(|(b, a, p)| b * p.sqrt() / (1.0 - a)).collect(),
            posterior_current: steps().map(|(b, a, p)| (1.0 - p) * (1.0 - b).sqrt() / (1.0 - a)).collect(),
            posterior_variance: variance,
            alphas_cumprod: cumulative,
            alphas_cumprod_prev: before,
            alphas_cumprod_next: after,
            betas,
            timestep_map,
        }
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.betas.len()
    }

    /// Signal-to-noise ratio ᾱ / (1 − ᾱ) of each step.
    pub fn signal_to_noise(&self) -> Vec<f64> {
        self.alphas_cumprod.iter().map(|a| a / (1.0 - a)).collect()
    }
}

//! One step of the process: forwards in closed form, backwards by DDPM or DDIM.

use super::schedule::{PredictionType, Schedule};
use super::solver::flow_time;
use crate::config::TIMESTEPS;
use tch::{Device, Kind, Tensor};

/// The columns of the table that steps gather their coefficients from.
#[derive(Clone, Copy)]
enum Column {
    SqrtSignal,
    SqrtNoise,
    RecipSignal,
    RecipNoise,
    Signal,
    SignalBefore,
    SignalAfter,
    PosteriorStart,
    PosteriorCurrent,
    LogBeta,
    LogPosterior,
    SignalToNoise,
    Moves,
}
const COLUMNS: i64 = 13;

/// A schedule on a device, f32 where tensors meet it (reference behaviour).
pub struct Diffusion {
    /// The tables in f64; of rectified flow only its timesteps are used.
    pub schedule: Schedule,
    /// What networks predict.
    pub prediction: PredictionType,
    /// `[steps, COLUMNS]`.
    table: Tensor,
}

/// The coefficients of a batch, each `[B, 1, 1, 1]`.
pub struct Coefficients(Vec<Tensor>);

impl Coefficients {
    fn get(&self, column: Column) -> &Tensor {
        &self.0[column as usize]
    }

    /// The same in tensors of their own, into which [`Coefficients::fill`] copies others.
    pub fn copy(&self) -> Self {
        Self(self.0.iter().map(Tensor::copy).collect())
    }

    /// Takes other values of the same shapes.
    pub fn fill(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| own.copy_(other));
    }

    /// Signal-to-noise ratio, `[B]`.
    pub(super) fn signal_to_noise(&self) -> Tensor {
        self.get(Column::SignalToNoise).flatten(0, -1)
    }
}

/// What a network's output says about the step back from `x`.
pub struct Prediction {
    /// x_0, `[B, C, S, S]`.
    pub start: Tensor,
    /// Mean of x_{t−1}, `[B, C, S, S]`.
    pub mean: Tensor,
    /// Logarithm of its variance, `[B, C, S, S]`.
    pub log_variance: Tensor,
}

impl Diffusion {
    /// A schedule's tables, on a device, for networks that predict the noise.
    pub fn new(schedule: Schedule, device: Device) -> Self {
        Self::of(PredictionType::Noise, schedule, device)
    }

    /// The same for networks that predict something else. A velocity's path is straight, whatever the schedule's curve.
    pub fn of(prediction: PredictionType, schedule: Schedule, device: Device) -> Self {
        let each = |f: fn(&f64) -> f64, values: &[f64]| values.iter().map(f).collect::<Vec<f64>>();
        let signal = &schedule.alphas_cumprod;
        let times: Vec<f64> =
            schedule.timestep_map.iter().map(|&t| flow_time(t as usize, TIMESTEPS as usize)).collect();
        let straight = prediction == PredictionType::Velocity;
        // In the order of `Column`.
        let columns = [
            if straight { each(|t| 1.0 - t, &times) } else { each(|a| a.sqrt(), signal) },
            if straight { times.clone() } else { each(|a| (1.0 - a).sqrt(), signal) },
            each(|a| (1.0 / a).sqrt(), signal),
            each(|a| (1.0 / a - 1.0).sqrt(), signal),
            signal.clone(),
            schedule.alphas_cumprod_prev.clone(),
            schedule.alphas_cumprod_next.clone(),
            schedule.posterior_start.clone(),
            schedule.posterior_current.clone(),
            each(|b| b.ln(), &schedule.betas),
            schedule.posterior_log_variance.clone(),
            schedule.signal_to_noise(),
            (0..schedule.steps()).map(|i| if i == 0 { 0.0 } else { 1.0 }).collect(),
        ];
        let flat: Vec<f64> = columns.concat();
        let table = Tensor::from_slice(&flat).view([COLUMNS, schedule.steps() as i64]).transpose(0, 1);
        let table = table.to_kind(Kind::Float).contiguous().to_device(device);
        Self { schedule, prediction, table }
    }

    /// The coefficients of each image's step, in one gather.
    ///
    /// # Shapes
    /// `step` `[B]` i64, indices into the schedule.
    pub fn at(&self, step: &Tensor) -> Coefficients {
        let rows = self.table.index_select(0, step).transpose(0, 1).contiguous(); // [COLUMNS, B]
        Coefficients(rows.view([COLUMNS, -1, 1, 1, 1]).unbind(0))
    }

    /// x_t from x_0 and noise.
    ///
    /// # Shapes
    /// All `[B, C, S, S]`.
    pub fn noised(&self, at: &Coefficients, start: &Tensor, noise: &Tensor) -> Tensor {
        at.get(Column::SqrtSignal) * start + at.get(Column::SqrtNoise) * noise
    }

    /// Mean and clipped log variance of q(x_{t−1} | x_t, x_0).
    ///
    /// # Shapes
    /// `start`, `x` `[B, C, S, S]`; the log variance is `[B, 1, 1, 1]`.
    pub fn posterior(&self, at: &Coefficients, start: &Tensor, x: &Tensor) -> (Tensor, Tensor) {
        let mean = at.get(Column::PosteriorStart) * start + at.get(Column::PosteriorCurrent) * x;
        (mean, at.get(Column::LogPosterior).shallow_clone())
    }

    /// x_0 from what a network predicts.
    ///
    /// # Shapes
    /// All `[B, C, S, S]`.
    pub fn start(&self, at: &Coefficients, x: &Tensor, predicted: &Tensor) -> Tensor {
        match self.prediction {
            PredictionType::Noise => at.get(Column::RecipSignal) * x - at.get(Column::RecipNoise) * predicted,
            PredictionType::V => at.get(Column::SqrtSignal) * x - at.get(Column::SqrtNoise) * predicted,
            PredictionType::Velocity => x - at.get(Column::SqrtNoise) * predicted,
        }
    }

    /// What a network ought to predict.
    ///
    /// # Shapes
    /// `start`, `noise` `[B, C, S, S]`, to the same.
    pub(super) fn target(&self, at: &Coefficients, start: &Tensor, noise: &Tensor) -> Tensor {
        match self.prediction {
            PredictionType::Noise => noise.shallow_clone(),
            PredictionType::V => at.get(Column::SqrtSignal) * noise - at.get(Column::SqrtNoise) * start,
            PredictionType::Velocity => noise - start,
        }
    }

    /// x_0, mean and variance from a network's prediction and variance values; the variance lies between the posterior's and
    /// β where the values lie in [−1, 1].
    ///
    /// # Shapes
    /// `x` `[B, C, S, S]`, `output` `[B, 2C, S, S]`.
    pub fn predict(&self, at: &Coefficients, x: &Tensor, output: &Tensor, clip: bool) -> Prediction {
        let halves = output.chunk(2, 1);
        let share = (&halves[1] + 1.0) * 0.5;
        let start = self.start(at, x, &halves[0]);
        let start = if clip { start.clamp(-1.0, 1.0) } else { start };
        let log_variance = &share * at.get(Column::LogBeta) + (1.0 - &share) * at.get(Column::LogPosterior);
        let (mean, _) = self.posterior(at, &start, x);
        Prediction { start, mean, log_variance }
    }

    /// The DDPM step: x_{t−1} with fresh noise, none at the last step.
    ///
    /// # Shapes
    /// `noise` `[B, C, S, S]`, to the same.
    pub fn ddpm(&self, at: &Coefficients, prediction: &Prediction, noise: &Tensor) -> Tensor {
        let deviation = at.get(Column::Moves) * (&prediction.log_variance * 0.5).exp();
        &prediction.mean + deviation * noise
    }

    /// The DDIM step; `eta` 0 takes no noise, 1 as much as DDPM with the posterior's variance.
    ///
    /// # Shapes
    /// All `[B, C, S, S]`.
    pub fn ddim(
        &self,
        at: &Coefficients,
        x: &Tensor,
        prediction: &Prediction,
        eta: f64,
        noise: &Tensor,
    ) -> Tensor {
        let (signal, before) = (at.get(Column::Signal), at.get(Column::SignalBefore));
        let ratio = (1f64 - before) / (1f64 - signal);
        let sigma = ratio.sqrt() * (1f64 - signal / before).sqrt() * eta;
        let direction = (1f64 - before - sigma.square()).sqrt();
        let mean = &prediction.start * before.sqrt() + direction * self.noise_of(at, x, prediction);
        mean + at.get(Column::Moves) * sigma * noise
    }

    /// The deterministic DDIM step towards more noise.
    ///
    /// # Shapes
    /// All `[B, C, S, S]`.
    pub fn ddim_reverse(&self, at: &Coefficients, x: &Tensor, prediction: &Prediction) -> Tensor {
        let after = at.get(Column::SignalAfter);
        let direction = (1f64 - after).sqrt();
        &prediction.start * after.sqrt() + direction * self.noise_of(at, x, prediction)
    }

    /// The noise that turns the predicted x_0 into `x`.
    fn noise_of(&self, at: &Coefficients, x: &Tensor, prediction: &Prediction) -> Tensor {
        (at.get(Column::RecipSignal) * x - &prediction.start) / at.get(Column::RecipNoise)
    }
}

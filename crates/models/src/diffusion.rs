//! The diffusion process: noise schedules, losses, and the steps back from noise.

pub mod losses;
pub mod respacing;
pub mod schedule;
pub mod solver;
pub mod steps;

pub use losses::{Losses, Weighting};
pub use respacing::Respacing;
pub use schedule::{NoiseSchedule, PredictionType, Schedule};
pub use steps::{Coefficients, Diffusion, Prediction};

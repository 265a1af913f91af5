//! Which steps a chain takes: the method, its timesteps, and what each of them is multiplied by.

use crate::Args;
use crate::arguments::Method;
use anyhow::Result;
use models::Config;
use models::config::TIMESTEPS;
use models::diffusion::solver::{self, flow_time};
use models::diffusion::{NoiseSchedule, PredictionType, Respacing, Schedule};
use stage::bad_input;
use std::ops::Range;

/// The steps of a chain.
pub struct Plan {
    /// How a picture comes from noise.
    pub method: Method,
    /// The timesteps and what follows from them, the last step of the chain first.
    pub schedule: Schedule,
    /// What the solver multiplies by at each step; nothing where the schedule says all.
    pub weights: Vec<Vec<f64>>,
    /// The timesteps that are guided.
    guided: Range<usize>,
}

impl Plan {
    /// What the arguments ask for of networks that predict this on this schedule.
    ///
    /// # Errors
    /// Bad input when the method is none for such networks, or an argument is none of the method's.
    pub fn new(args: &Args, prediction: PredictionType, curve: NoiseSchedule) -> Result<Self> {
        let straight = prediction == PredictionType::Velocity;
        let method = args.sampler.unwrap_or(if straight { Method::Heun } else { Method::Ddpm });
        if straight != matches!(method, Method::Euler | Method::Heun) {
            let these = if straight { "euler or heun" } else { "ddpm, ddim or dpm-solver++" };
            bad_input!("--sampler {method}: the network predicts {}; use {these}", what(prediction))
        }
        if args.eta != 0.0 && method != Method::Ddim {
            bad_input!("--eta {}: only ddim takes it, not {method}", args.eta)
        }
        let (timesteps, steps) = (TIMESTEPS as usize, args.steps);
        let respacing = match method {
            // One step of the reference's rule would be from timestep 0, which is no noise.
            Method::Ddim if steps == 1 => Respacing::Timesteps(vec![timesteps - 1]),
            Method::Ddpm | Method::Ddim => Respacing::Sections(vec![steps]),
            Method::DpmSolver => Respacing::Timesteps(solver::dpm_solver_timesteps(curve, timesteps, steps)),
            Method::Euler | Method::Heun => Respacing::Timesteps(solver::flow_timesteps(timesteps, steps)),
        };
        let schedule = Schedule::new(curve, timesteps, &respacing)?;
        let weights = match method {
            Method::Ddpm | Method::Ddim => vec![vec![]; schedule.steps()],
            Method::DpmSolver => solver::dpm_solver(&schedule).into_iter().map(Vec::from).collect(),
            Method::Euler | Method::Heun => lengths(&schedule.timestep_map),
        };
        let guided = match args.guidance_interval.as_slice() {
            [] => 0..timesteps,
            [from, to] if from < to && *to <= timesteps => *from..*to,
            other => bad_input!(
                "--guidance-interval {}: give first timestep and last + 1, as in 200,800, up to {timesteps}",
                other.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
            ),
        };
        Ok(Self { method, schedule, weights, guided })
    }

    /// Whether guidance is of some timesteps only.
    pub fn guides_some(&self) -> bool {
        self.guided != (0..TIMESTEPS as usize)
    }

    /// Whether the evaluation at a timestep is guided.
    pub fn guides(&self, timestep: i64) -> bool {
        self.guided.contains(&(timestep as usize))
    }

    /// Whether steps draw noise.
    pub fn draws(&self, eta: f64) -> bool {
        self.method == Method::Ddpm || self.method == Method::Ddim && eta > 0.0
    }

    /// The timestep at the end of a step, where the method corrects it there.
    pub fn corrected_at(&self, step: usize) -> Option<i64> {
        (self.method == Method::Heun && step > 0).then(|| self.schedule.timestep_map[step - 1])
    }
}

/// Checks that guidance which is asked for can be had.
///
/// # Errors
/// Bad input when the network knows no null label.
pub fn can_guide(args: &Args, network: &Config) -> Result<()> {
    let asked = [
        ("guidance-interval", !args.guidance_interval.is_empty()),
        ("guidance-channels", args.guidance_channels != models::GuidedChannels::All),
    ];
    if let Some((flag, _)) = asked.iter().find(|(_, given)| *given && !network.conditional()) {
        bad_input!("--{flag}: the network has no null label, so that there is no guidance")
    }
    Ok(())
}

fn what(prediction: PredictionType) -> &'static str {
    match prediction {
        PredictionType::Noise => "noise",
        PredictionType::V => "v",
        PredictionType::Velocity => "a velocity",
    }
}

/// How far each step goes along the path, towards the picture: below 0.
fn lengths(timesteps: &[i64]) -> Vec<Vec<f64>> {
    let times = timesteps.iter().map(|&t| flow_time(t as usize, TIMESTEPS as usize));
    let ends = std::iter::once(0.0).chain(times.clone());
    times.zip(ends).map(|(from, to)| vec![to - from]).collect()
}

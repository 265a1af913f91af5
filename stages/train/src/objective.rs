//! What a training minimises: its terms, their weights, and which timesteps it visits.

use crate::arguments::{Args, GateTraining, Loss, Weight};
use anyhow::Result;
use models::config::{Allocation, Architecture, TIMESTEPS};
use models::diffusion::{NoiseSchedule, PredictionType, Weighting, losses};
use models::prior::{Prior, load_balance, z_loss};
use models::{Config, Gates};
use serde::{Deserialize, Serialize};
use stage::bad_input;
use tch::{Kind, Tensor};
use torch::random;

/// The objective's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Objective {
    /// The diffusion loss.
    pub loss: Loss,
    /// How timesteps are weighted.
    pub weighting: Weight,
    /// Min-SNR's γ.
    pub snr_gamma: f64,
    /// P2's γ.
    pub p2_gamma: f64,
    /// P2's k.
    pub p2_k: f64,
    /// Clusters of uncertainty weighting.
    pub clusters: usize,
    /// First timestep that is trained, and the one after the last.
    pub interval: [i64; 2],
    /// How the gates are trained.
    pub gating: GateTraining,
    /// Weight of the prior loss, λ_dp.
    pub prior_weight: f64,
    /// Weight of the load-balancing loss.
    pub balance_weight: f64,
    /// Weight of the z-loss.
    pub z_weight: f64,
}

/// The terms of a batch's loss, by their names in the log.
pub struct Terms {
    /// What is minimised.
    pub loss: Tensor,
    /// Means to log, each a scalar without gradient.
    pub log: Vec<(&'static str, Tensor)>,
}

impl Objective {
    /// The objective that the arguments give for a network.
    ///
    /// # Errors
    /// Bad input when they do not fit together.
    pub fn new(args: &Args, network: &Config) -> Result<Self> {
        let standard = match network.allocation {
            Allocation::NoisyGate => GateTraining::NoisyTopK,
            _ if network.routed() => GateTraining::Prior,
            _ => GateTraining::None,
        };
        let objective = Self {
            loss: args.loss,
            weighting: args.weighting,
            snr_gamma: args.snr_gamma,
            p2_gamma: args.p2_gamma,
            p2_k: args.p2_k,
            clusters: args.clusters,
            interval: match args.interval.as_slice() {
                [] => [0, TIMESTEPS],
                [from, to] if from < to && *to as i64 <= TIMESTEPS => [*from as i64, *to as i64],
                other => bad_input!(
                    "--interval {other:?}: give first and last + 1, as in 0,250, up to {TIMESTEPS}"
                ),
            },
            gating: args.gating.unwrap_or(standard),
            prior_weight: args.prior_weight,
            balance_weight: args.balance_weight,
            z_weight: args.z_weight,
        };
        let masked_at_random =
            objective.gating == GateTraining::Random && network.architecture == Architecture::Dtr;
        if objective.gating != GateTraining::None && !network.routed() && !masked_at_random {
            bad_input!("--gating {}: {} has no gates", objective.gating, network.architecture)
        }
        if objective.weighting == Weight::Uncertainty && !args.batch_size.is_multiple_of(args.clusters) {
            bad_input!("--batch-size {} is no multiple of --clusters {}", args.batch_size, args.clusters)
        }
        objective.suits(args)?;
        Ok(objective)
    }

    /// Checks that the loss is one of what is predicted.
    fn suits(&self, args: &Args) -> Result<()> {
        let (prediction, weighting) = (args.prediction, self.weighting);
        let weighted = match prediction {
            PredictionType::Noise => true,
            PredictionType::V => !matches!(weighting, Weight::P2 | Weight::P2AsPublished),
            PredictionType::Velocity => matches!(weighting, Weight::Constant | Weight::Uncertainty),
        };
        if !weighted {
            bad_input!(
                "--weighting {weighting}: its weights are not of errors of {prediction}; use constant or uw"
            )
        }
        if prediction == PredictionType::Velocity && args.schedule != NoiseSchedule::Cosine {
            bad_input!(
                "--schedule {}: a velocity is that of a straight path, without a schedule",
                args.schedule
            )
        }
        Ok(())
    }

    /// How a network's gates choose under this gating.
    pub fn allocation(gating: GateTraining) -> Allocation {
        match gating {
            GateTraining::Prior | GateTraining::None | GateTraining::LoadBalance => Allocation::Gate,
            GateTraining::NoisyTopK | GateTraining::NoisyPrior | GateTraining::NoisyLoadBalance => {
                Allocation::NoisyGate
            }
            GateTraining::Random => Allocation::Random,
        }
    }

    /// Whether gates are matched to the prior.
    pub fn matches(&self) -> bool {
        matches!(self.gating, GateTraining::Prior | GateTraining::NoisyPrior)
    }

    /// Whether experts are to be used evenly.
    pub fn balances(&self) -> bool {
        matches!(self.gating, GateTraining::LoadBalance | GateTraining::NoisyLoadBalance)
    }

    /// Whether parts of a batch have the loss of the whole as their mean.
    pub fn divides(&self) -> bool {
        self.weighting != Weight::Uncertainty && self.weighting != Weight::P2AsPublished && !self.balances()
    }

    /// Learned log variances that a fresh training begins with, if it has any.
    pub fn log_variances(&self) -> Option<i64> {
        (self.weighting == Weight::Uncertainty).then_some(self.clusters as i64)
    }

    /// The timesteps of a step's batch: uniform, or evenly from the clusters in their order.
    ///
    /// # Shapes
    /// `[images]` i64.
    pub fn timesteps(&self, seed: u64, step: u64, images: i64) -> Tensor {
        let [from, to] = self.interval;
        if self.weighting != Weight::Uncertainty {
            return random::integers(seed, "timestep", step, to - from, &[images]) + from;
        }
        let clusters = self.clusters as i64;
        let edge = |i: i64| from + ((to - from) as f64 / clusters as f64 * i as f64) as i64;
        let draws: Vec<Tensor> = (0..clusters)
            .map(|i| {
                let purpose = format!("timestep/{i}");
                random::integers(seed, &purpose, step, edge(i + 1) - edge(i), &[images / clusters]) + edge(i)
            })
            .collect();
        Tensor::cat(&draws, 0)
    }

    /// The weights of the noise error.
    pub fn noise_weighting(&self) -> Weighting {
        match self.weighting {
            Weight::Constant | Weight::Uncertainty => Weighting::Constant,
            Weight::MinSnr => Weighting::MinSnr { gamma: self.snr_gamma },
            Weight::P2 => Weighting::P2 { gamma: self.p2_gamma, k: self.p2_k },
            Weight::P2AsPublished => Weighting::P2AsPublished { gamma: self.p2_gamma, k: self.p2_k },
        }
    }

    /// Adds everything up. `prior` is the prior with this step's matching.
    ///
    /// # Shapes
    /// `diffusion` `[B]` each, `t` `[B]`, `log_variances` `[clusters]`.
    pub fn terms(
        &self,
        diffusion: &losses::Losses,
        gates: Option<&Gates>,
        prior: Option<(&Prior, &Tensor)>,
        t: &Tensor,
        log_variances: Option<&Tensor>,
    ) -> Terms {
        let scalar = |x: &Tensor| x.detach().mean(Kind::Float);
        let mut log = vec![("mse", scalar(&diffusion.error)), ("vb", scalar(&diffusion.vb))];
        if self.noise_weighting() != Weighting::Constant {
            log.push(("weighted", scalar(&diffusion.mse)));
        }
        let each = match self.loss {
            Loss::Full => &diffusion.mse + &diffusion.vb,
            Loss::Simple => diffusion.mse.shallow_clone(),
        };
        let mut loss = match log_variances {
            Some(log_variances) => losses::uncertainty(&each, log_variances),
            None => each.mean(Kind::Float),
        };
        let mut add = |name, term: Tensor, weight: f64| {
            log.push((name, term.detach()));
            loss = &loss + term * weight;
        };
        match (gates, prior) {
            (Some(gates), Some((prior, matching))) => {
                add("prior", prior.loss(gates, t, matching), self.prior_weight)
            }
            _ => add("prior", diffusion.error.detach().sum(Kind::Float) * 0.0, 0.0),
        }
        if let Some(gates) = gates {
            if self.balances() {
                add("load_balance", load_balance(gates), self.balance_weight);
            }
            if self.z_weight != 0.0 {
                add("z", z_loss(gates), self.z_weight);
            }
        }
        log.push(("loss", loss.detach()));
        Terms { loss, log }
    }
}

//! The command line of `train`.

use crate::{log, outputs};
use models::config::{Form, Integration};
use models::diffusion::{NoiseSchedule, PredictionType};
use shards::Residence;
use stage::Known;
use std::path::PathBuf;
use torch::Precision;
use torch::device::DeviceChoice;
use torch::graphs::CudaGraphs;

stage::choice! {
    /// How the gates are trained (Table 1).
    pub enum GateTraining {
        /// Towards the diffusion prior; the paper's.
        Prior = "prior",
        /// By the noise error alone.
        None = "none",
        /// With noise on the gates.
        NoisyTopK = "noisy-top-k",
        /// With noise, towards the prior.
        NoisyPrior = "noisy-prior",
        /// Towards an even use of the experts.
        LoadBalance = "load-balance",
        /// With noise, towards an even use.
        NoisyLoadBalance = "noisy-load-balance",
        /// Not at all: experts, or DTR's channels, are given out at random once. Experts (Table 4): in each block one for all
        /// timesteps, one for those of one of the prior's first columns, which are drawn without replacement so that the blocks
        /// together have the prior's own columns in another order, and one for the others. DTR's channels (Table 3): for each
        /// timestep as many as its masks have, in every block anew.
        Random = "random",
    }
}

stage::choice! {
    /// How the noise errors of timesteps are weighted.
    pub enum Weight {
        /// Alike.
        Constant = "constant",
        /// min(SNR, γ) / SNR.
        MinSnr = "min-snr",
        /// 1 / (k + SNR)^γ.
        P2 = "p2",
        /// The same, collapsed to its mean over the batch as in the official code.
        P2AsPublished = "p2-as-published",
        /// Learned per cluster of timesteps (ANT's uncertainty weighting).
        Uncertainty = "uw",
    }
}

stage::choice! {
    /// The diffusion loss.
    pub enum Loss {
        /// Noise error and variance term; the code's.
        Full = "full",
        /// Noise error alone; the paper's Eqs. 1 and 11.
        Simple = "simple",
    }
}

/// `--checkpoints` to the contract.
const CHECKPOINTS: Known<Args> = Known::Folder(outputs::CHECKPOINTS);
/// `--log` to the contract.
const LOG: Known<Args> = Known::File(|_, path| log::is_log(path));
/// `--events` to the contract.
const EVENTS: Known<Args> = Known::Folder(outputs::EVENTS_FOLDER);

stage::arguments! {
    /// Train Switch-DiT, DTR or DiT on latents.
    ///
    /// Writes checkpoints that hold the network, its moving averages and the optimiser's state, and a log with a line of JSON
    /// for every `--log-every` steps. A run that was stopped or killed goes on from its last checkpoint to the same result.
    pub struct Args: "train", state outputs::STATE {
        /// Latents that `encode` wrote.
        input latents: PathBuf;
        /// Checkpoints of a shorter run of the same training to go on from, or the reference's `.pt` with its optimiser's state.
        input resume: Option<PathBuf>;
        /// Checkpoint whose weights and average a new training begins with: ours, the reference's, DTR's or facebookresearch/DiT's
        /// `.pt`, or such tensors in safetensors.
        input initialize: Option<PathBuf>;
        /// Network: architecture, size and patch, such as switch-dit-b/2.
        param model: String = "switch-dit-s/2".to_string();
        /// Experts of a block; 3 where the model's name does not say otherwise.
        param experts: Option<usize>, in 1..=64;
        /// Experts that a timestep keeps; 2 where the model's name does not say otherwise.
        param top_k: Option<usize>, in 1..=64;
        /// How the gates are trained; prior for switch-dit, noisy-top-k for time-moe, none without gates.
        param gating: Option<GateTraining>;
        /// What a block makes of its experts' mixture; mask-skip-one for switch-dit, replace for time-moe.
        param integration: Option<Integration>;
        /// Form of Eq. 7 that the prior map takes.
        param relations: Form = Form::Reference;
        /// Weight of the diffusion prior loss.
        param prior_weight: f64 = 1.0, in 0.0..;
        /// Weight of the load-balancing loss.
        param balance_weight: f64 = 0.01, in 0.0..;
        /// Weight of the z-loss of the gates' logits.
        param z_weight: f64 = 0.0, in 0.0..;
        /// The diffusion loss.
        param loss: Loss = Loss::Full;
        /// How the noise errors of timesteps are weighted.
        param weighting: Weight = Weight::Constant;
        /// γ of min-snr.
        param snr_gamma: f64 = 5.0, in 0.0..;
        /// γ of p2.
        param p2_gamma: f64 = 1.0, in 0.0..;
        /// k of p2.
        param p2_k: f64 = 1.0, in 0.0..;
        /// Clusters of timesteps of uw.
        param clusters: usize = 8, in 1..=1000;
        /// First timestep to train and the one after the last, as in 0,250; all where this is not given.
        param interval: Vec<usize> = vec![], in 0..=1000;
        /// Noise schedule; a velocity has none.
        param schedule: NoiseSchedule = NoiseSchedule::Cosine;
        /// What the network predicts, and the noise error is then the error of.
        param prediction: PredictionType = PredictionType::Noise;
        /// Optimiser steps in all.
        param iterations: usize = 400_000, in 1.., unit "steps";
        /// Latents per step.
        param batch_size: usize = 256, in 1..;
        /// Learning rate of AdamW.
        param learning_rate: f64 = 1e-4, in 0.0..;
        /// Weight decay of AdamW.
        param weight_decay: f64 = 0.0, in 0.0..;
        /// Steps over which the learning rate rises to its value; 0 begins with it.
        param warm_up: usize = 0, unit "steps";
        /// Greatest norm of the gradient; 0 leaves it as it is.
        param clip: f64 = 0.0, in 0.0..;
        /// Parts that a batch is evaluated in, one after the other, to save memory.
        param accumulate: usize = 1, in 1..;
        /// Decays of the moving averages of the weights.
        param ema_decay: Vec<f64> = vec![0.9999], in 0.0..=1.0;
        /// Probability that a label is hidden.
        param label_dropout: f64 = 0.1, in 0.0..=1.0;
        /// What products are computed in; weights and the optimiser's state are f32 always.
        param precision: Precision = Precision::F32;
        /// Begin the table of labels anew instead of taking it from `--initialize`, as other classes need it.
        param new_labels: bool = false;
        /// Seed of everything random.
        param seed: u64 = 0;
        /// Steps between checkpoints; the last step always has one.
        param checkpoint_every: usize = 50_000, in 1.., unit "steps";
        /// Checkpoints to keep, the newest; 0 keeps all.
        param keep: usize = 0;
        /// Steps between lines of the log, each the mean since the line before.
        param log_every: usize = 100, in 1.., unit "steps";
        /// Steps between looks at the gating map, where gates learn to choose: the lines of the log at these steps say how much of it,
        /// and of the first moving average's, agrees with the prior and with the map of the look before.
        param gating_every: usize = 100, in 1.., unit "steps";
        /// Where to compute: auto, cpu, cuda:0, …
        judged_tuning device: DeviceChoice = DeviceChoice::Auto;
        /// Whether a GPU repeats a step that was recorded once, instead of being given its parts anew: auto, where it can.
        tuning cuda_graphs: CudaGraphs = CudaGraphs::Auto;
        /// Threads that compute; 0 leaves it to libtorch. Results are the same bits for the same number of threads.
        tuning threads: usize = 0;
        /// Where latents stay while they are fed; auto keeps them in memory where that takes no more than half of what is free,
        /// and else reads them from the disk a few batches ahead.
        tuning residence: Residence = Residence::Auto;
        /// Folder of checkpoints.
        output checkpoints: PathBuf, known CHECKPOINTS;
        /// Log, one line of JSON per entry.
        output log: PathBuf, known LOG;
        /// Folder for the log in TensorBoard's form. While training goes on, the state folder has it.
        output events: Option<PathBuf>, known EVENTS;
    }
}

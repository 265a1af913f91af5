//! The command line of `train`.

use models::Precision;
use models::device::DeviceChoice;
use models::diffusion::Curve;
use std::path::PathBuf;

stage::arguments! {
    /// Train Switch-DiT, DTR or DiT on latents.
    ///
    /// Writes checkpoints that hold the network, its moving averages and the optimiser's state, and a log with a line of JSON
    /// for every `--log-every` steps. A run that was stopped or killed goes on from its last checkpoint to the same result.
    pub struct Args: "train" {
        /// Latents that `encode` wrote.
        input latents: PathBuf;
        /// Checkpoints of a shorter run of the same training to go on from.
        input resume: Option<PathBuf>;
        /// Network: architecture, size and patch, such as switch-dit-b/2.
        param model: String = "switch-dit-s/2".to_string();
        /// Experts of a block.
        param experts: usize = 3, in 1..=64;
        /// Experts that a timestep keeps.
        param top_k: usize = 2, in 1..=64;
        /// Weight of the diffusion prior loss.
        param prior_weight: f64 = 1.0, in 0.0..;
        /// Noise schedule.
        param schedule: Curve = Curve::Cosine;
        /// Optimiser steps in all.
        param iterations: usize = 400_000, in 1.., unit "steps";
        /// Latents per step.
        param batch_size: usize = 256, in 1..;
        /// Learning rate of AdamW.
        param learning_rate: f64 = 1e-4, in 0.0..;
        /// Weight decay of AdamW.
        param weight_decay: f64 = 0.0, in 0.0..;
        /// Decays of the moving averages of the weights.
        param ema_decay: Vec<f64> = vec![0.9999], in 0.0..=1.0;
        /// Probability that a label is hidden.
        param label_dropout: f64 = 0.1, in 0.0..=1.0;
        /// What products are computed in; weights and the optimiser's state are f32 always.
        param precision: Precision = Precision::F32;
        /// Seed of everything random.
        param seed: u64 = 0;
        /// Steps between checkpoints; the last step always has one.
        param checkpoint_every: usize = 50_000, in 1.., unit "steps";
        /// Checkpoints to keep, the newest; 0 keeps all.
        param keep: usize = 0;
        /// Steps between lines of the log, each the mean since the line before.
        param log_every: usize = 100, in 1.., unit "steps";
        /// Where to compute: auto, cpu, cuda:0, …
        tuning device: DeviceChoice = DeviceChoice::Auto;
        /// Threads of one operation; 0 leaves it to libtorch. Results are the same bits for the same number of threads.
        tuning threads: usize = 0;
        /// Folder of checkpoints.
        output checkpoints: PathBuf;
        /// Log, one line of JSON per entry.
        output log: PathBuf;
    }
}

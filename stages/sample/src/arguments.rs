//! The command line of `sample`.

use crate::labels::Labels;
use crate::outputs::{SAMPLES, STATE};
use models::GuidedChannels;
use models::diffusion::{NoiseSchedule, PredictionType};
use models::interchange::{self, Hints, WeightSet};
use stage::Known;
use std::path::PathBuf;
use torch::Precision;
use torch::device::DeviceChoice;
use torch::graphs::CudaGraphs;

stage::choice! {
    /// How a picture comes from noise.
    pub enum Method {
        /// Each step draws noise of the variance that the network has learned; the reference's and the paper's.
        Ddpm = "ddpm",
        /// DDIM, with `--eta` of the posterior's noise.
        Ddim = "ddim",
        /// DPM-Solver++(2M): no noise, second order, good from about 20 steps. It begins where the noise is not almost all: at the
        /// last timestep of the linear schedule, at 995 of the cosine one.
        DpmSolver = "dpm-solver++",
        /// Straight steps along the velocity; for rectified flow, first order.
        Euler = "euler",
        /// The same, each corrected with the velocity at its end: second order, two evaluations for every step but the last.
        Heun = "heun",
    }
}

/// `--samples`.
const KNOWN: Known<Args> = Known::Folder(SAMPLES);
/// `--convert`.
const CONVERTED: Known<Args> = Known::File(|_, path| Ok(interchange::is_converted(path)));

stage::arguments! {
    /// Sample pictures from a checkpoint, with classifier-free guidance.
    ///
    /// Writes each picture as PNG and all of them as `samples.npz` (`arr_0` uint8 [N, H, W, 3], `arr_1` int64 labels), the form
    /// that ADM's evaluation reads. Picture number i depends on the seed and i, not on the batch it is in. With `--convert` it
    /// writes the checkpoint in the other form: for the reference's programs, or from them.
    pub struct Args: "sample", state STATE {
        /// A checkpoint, or a folder of them, whose last step is taken; the reference's, DTR's or facebookresearch/DiT's `.pt`, or
        /// such tensors in safetensors; or a folder with one of these for each interval of the timesteps, which are sampled as one.
        judged_input checkpoints: PathBuf;
        /// Autoencoder that the latents come from, a file of weights or a folder with one; for `--samples`.
        judged_input vae: Option<PathBuf>;
        /// Folder with what each shard made: joins them, and samples nothing.
        input samples_parts: Option<PathBuf>;
        /// Pictures to sample.
        param images: usize = 50_000, in 1.., unit "images";
        /// How a picture comes from noise; ddpm where this is not given, heun for a network that predicts a velocity.
        param sampler: Option<Method>;
        /// Steps from noise to picture.
        param steps: usize = 250, in 1..=1000;
        /// Noise of ddim's steps: 0 draws none, 1 as much as the posterior has.
        param eta: f64 = 0.0, in 0.0..=1.0;
        /// Guidance scale; 1 follows the labels as they are. Unconditional networks have none.
        param guidance: f64 = 1.5, in 0.0..;
        /// First timestep to guide and the one after the last, as in 200,800 of 1000, of which the last is pure noise; all where this
        /// is not given. At the others the labels are followed as they are, by one evaluation in place of two.
        param guidance_interval: Vec<usize> = vec![], in 0..=1000;
        /// Which channels of the prediction are guided.
        param guidance_channels: GuidedChannels = GuidedChannels::All;
        /// How labels are given out: `uniform`, at random; `balanced`, one class after the other; or the classes to sample in
        /// turns, by their names where the checkpoint has them (`cat,dog`), else by their numbers.
        param labels: Labels = Labels::Uniform;
        /// Weights to sample from: ema, a moving average; model, the trained weights themselves; or, of another program's file, those
        /// under this key.
        param weights: WeightSet = WeightSet::Ema;
        /// Which moving average; the checkpoint's first where this is not given.
        param ema_decay: Option<f64>, in 0.0..=1.0;
        /// Noise schedule that a foreign `.pt` was trained with; our checkpoints and official ones say it themselves.
        param schedule: Option<NoiseSchedule>;
        /// What the network of a foreign `.pt` predicts; noise where this is not given. Our checkpoints say it themselves.
        param prediction: Option<PredictionType>;
        /// Attention heads of a foreign `.pt` whose width and blocks are no preset's.
        param heads: Option<i64>, in 1..;
        /// Classes of a foreign `.pt`, without the null label, where its table of labels can be read in two ways.
        param classes: Option<i64>, in 1..;
        /// What the latents of a foreign `.pt` are the autoencoder's times; as the autoencoder's config.json says, else 0.18215.
        param scale: Option<f64>, in 0.0..;
        /// What was taken from them before; as config.json says, else 0.
        param shift: Option<f64>;
        /// What the network's products are computed in; the chain itself is f32 always.
        param precision: Precision = Precision::F32;
        /// Seed of noise and labels.
        param seed: u64 = 0;
        /// Sample only one of so many shards of the pictures; `--samples-parts` joins them.
        param shards: usize = 1, in 1..;
        /// Which, from 0.
        param shard: usize = 0;
        /// Pictures at once.
        tuning batch_size: usize = 64, in 1.., unit "images";
        /// Where to compute: auto, cpu, cuda:0, …
        judged_tuning device: DeviceChoice = DeviceChoice::Auto;
        /// Whether a GPU repeats a step that was recorded once, instead of being given its parts anew: auto, where it can.
        tuning cuda_graphs: CudaGraphs = CudaGraphs::Auto;
        /// Threads of one operation; 0 leaves it to libtorch.
        tuning threads: usize = 0;
        /// Folder of pictures.
        output samples: Option<PathBuf>, known KNOWN;
        /// The checkpoint with one average and the optimiser's state: a name in `.pt` gives the reference's form (`model`, `ema`,
        /// `opt`, and `uw` where scales are learned), one in `.safetensors` ours.
        output convert: Option<PathBuf>, known CONVERTED;
    }
}

impl Args {
    /// What is said of checkpoints that do not say it themselves.
    pub fn hints(&self) -> Hints {
        Hints {
            schedule: self.schedule,
            prediction: self.prediction,
            heads: self.heads,
            classes: self.classes,
            any_classes: false,
            weights: self.weights.clone(),
        }
    }
}

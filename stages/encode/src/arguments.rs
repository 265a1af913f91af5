//! The command line of `encode`.

use crate::outputs;
use stage::Known;
use std::path::PathBuf;
use torch::Precision;
use torch::device::DeviceChoice;

/// `--latents` to the contract.
const LATENTS: Known<Args> = Known::Folder(outputs::LATENTS);

stage::arguments! {
    /// Encode pictures as VAE latents.
    ///
    /// Each picture is cropped as ADM does it, encoded, and stored as the mean and standard deviation of its posterior, not
    /// scaled and not sampled: training draws a fresh sample at every visit.
    pub struct Args: "encode", state outputs::STATE {
        /// Pictures as `download` lays them out.
        input images: PathBuf;
        /// Weights of an AutoencoderKL: a safetensors file, a .ckpt of latent diffusion, or a folder with one of them, whose
        /// config.json then says how latents are scaled.
        judged_input vae: PathBuf;
        /// Folder with what each shard made: joins them, and encodes nothing.
        input latents_parts: Option<PathBuf>;
        /// Side that pictures are cropped to; a multiple of what the network halves away, 8 for Stable Diffusion's.
        param image_size: usize = 256, in 8..=2048, unit "pixels";
        /// Whether to encode the mirrored picture too, for training that mirrors at random.
        param flip: bool = false;
        /// What a network's latents are the autoencoder's times; as config.json says, else 0.18215, or 1 with
        /// --channel-statistics.
        param scale: Option<f64>, in 0.0..;
        /// What is taken from the autoencoder's latents before; as config.json says, else 0.
        param shift: Option<f64>;
        /// Whether a network sees latents less the mean of their channel, over its standard deviation, both over all pictures.
        param channel_statistics: bool = false;
        /// Rows of a file.
        param shard_rows: usize = 4096, in 1.., unit "rows";
        /// What the network computes with; in bf16 all of it, for GPUs that have it.
        param precision: Precision = Precision::F32;
        /// Encode only one of so many shards of the files; `--latents-parts` joins them.
        param shards: usize = 1, in 1..;
        /// Which, from 0.
        param shard: usize = 0;
        /// Pictures at once.
        tuning batch_size: usize = 16, in 1.., unit "images";
        /// Where to compute: auto, cpu, cuda:0, …
        judged_tuning device: DeviceChoice = DeviceChoice::Auto;
        /// Threads of one operation; 0 leaves it to libtorch.
        tuning threads: usize = 0;
        /// Folder of shards.
        output latents: PathBuf, known LATENTS;
    }
}

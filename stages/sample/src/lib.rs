//! Samples pictures from a checkpoint.

mod arguments;
mod join;
mod npz;
mod pictures;
mod sampler;

pub use arguments::{Args, Labels, WeightSet};

use anyhow::Result;
use models::Weights;
use models::checkpoint::Checkpoint;
use models::device::{self, DeviceChoice};
use models::vae::Vae;
use pictures::Pictures;
use sampler::Sampler;
use serde_json::json;
use stage::sharding::share;
use stage::{Context, bad_input};
use std::ops::Range;
use tch::Kind;

/// Samples `--images` pictures, from where this work was stopped, if it was.
///
/// # Errors
/// Bad input when an argument, the checkpoint or the autoencoder do not fit; [`stage::Stopped`] when asked to stop.
pub fn sample(args: &Args, context: &Context) -> Result<()> {
    if let Some(parts) = &args.samples_parts {
        return join::join(parts, &args.samples, args.images);
    }
    let mine = range(args)?;
    let device = device::open(args.device, args.threads)?;
    if let Some(reason) = device::unused_gpu().filter(|_| args.device == DeviceChoice::Auto) {
        context.message(&format!("computing on the CPU: {reason}"));
    }
    let mut checkpoint = Checkpoint::read(&args.checkpoints)?;
    let about = checkpoint.about.clone();
    let digest = stage::digest(&args.vae)?;
    if !about.latents.vae.is_empty() && about.latents.vae != digest {
        bad_input!(
            "{}: not the autoencoder of the latents that {} was trained on (BLAKE3 {digest}, wanted {})",
            args.vae.display(),
            checkpoint.weights.source(),
            about.latents.vae
        )
    }
    let vae = Vae::load(Weights::read(&args.vae)?, device, Kind::Float)?;
    if vae.config().latent != about.network.channels {
        bad_input!(
            "{}: latents of {} channels, the network's have {}",
            args.vae.display(),
            vae.config().latent,
            about.network.channels
        )
    }
    let decay = match args.weights {
        WeightSet::Model => None,
        WeightSet::Ema => Some(args.ema_decay.or(about.ema_decays.first().copied()).unwrap_or_default()),
    };
    let network = checkpoint.network(decay, device)?;
    let side = about.network.side * vae.config().factor();
    let what = json!({
        "checkpoint": about,
        "weights": decay,
        "vae": digest,
        "steps": args.steps,
        "guidance": args.guidance,
        "precision": args.precision,
        "labels": args.labels,
        "seed": args.seed,
        "images": [mine.start, mine.end],
    });
    let sampler = Sampler::new(args, &about, network, vae)?;
    let mut pictures = Pictures::resume(context.state()?, &what, side as usize, mine.start)?;
    while pictures.done() < mine.end {
        context.progress(pictures.done() - mine.start, mine.len(), "images");
        let count = args.batch_size.min(mine.end - pictures.done());
        let bytes = sampler.batch(pictures.done(), count, || context.check_stop())?;
        pictures.add(&bytes, count)?;
    }
    context.progress(mine.len(), mine.len(), "images");
    pictures.publish(&args.samples, &sampler.labels(mine.start, mine.len()))
}

/// The pictures of this shard. Shards end where batches do, so that each batch is what it would be in one piece.
fn range(args: &Args) -> Result<Range<usize>> {
    let batches = share(args.images.div_ceil(args.batch_size), args.shard, args.shards)?;
    Ok(args.images.min(batches.start * args.batch_size)..args.images.min(batches.end * args.batch_size))
}

//! Samples pictures from a checkpoint.

mod answers;
mod arguments;
mod autoencoder;
mod experts;
mod graphed_step;
mod join;
mod labels;
mod noise;
mod outputs;
mod pictures;
mod plan;
mod reverse_step;
mod sampler;

pub use answers::QUESTIONS;
pub use arguments::{Args, Method};
pub use labels::Labels;
pub use sampler::Sampler;

use anyhow::Result;
use autoencoder::{latent_space, same_autoencoder, same_channels};
use experts::Experts;
use models::interchange;
use pictures::SampledPictures;
use sampler::Decoder;
use serde_json::json;
use stage::sharding::share;
use stage::{Context, bad_input};
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{channel, sync_channel};
use tch::{Kind, Tensor};
use torch::device::{self, DeviceChoice};
use torch::parallel::Sharing;
use vae::{Files, Vae};
use weights::Weights;

/// Samples `--images` pictures, from where this work was stopped, if it was, or converts the checkpoint, or both.
///
/// Started by `torchrun` or `srun` as one of several processes, each samples its share, and the first writes.
///
/// # Errors
/// Bad input when an argument, the checkpoint or the autoencoder do not fit; [`stage::Stopped`] when asked to stop.
pub fn sample(args: &Args, context: &Context) -> Result<()> {
    let mut sharing = Sharing::of(context)?;
    let ranges = match (&args.samples, &args.samples_parts) {
        (Some(_), None) => Some(ranges(args, &sharing)?),
        _ => None,
    };
    sharing.join()?;
    if let Some(path) = args.convert.as_ref().filter(|_| sharing.leads()) {
        convert(args, path, context)?;
    }
    let Some(samples) = &args.samples else {
        match args.convert {
            Some(_) => return Ok(()),
            None => bad_input!("nothing to do: give --samples, or --convert"),
        }
    };
    match (&args.samples_parts, &args.vae, ranges) {
        (Some(parts), ..) if sharing.leads() => join::join(parts, samples, 0..args.images),
        (_, Some(vae), Some(ranges)) => pictures_of(args, samples, vae, context, &sharing, ranges),
        (Some(_), ..) => Ok(()),
        (None, ..) => bad_input!("--samples needs the autoencoder: give --vae"),
    }
}

/// Writes the checkpoint in the form that the name of `path` asks for.
fn convert(args: &Args, path: &Path, context: &Context) -> Result<()> {
    let mut checkpoint = interchange::read_whole(&args.checkpoints, &args.hints())?;
    checkpoint.notices.iter().for_each(|notice| context.message(notice));
    match path.extension().and_then(|e| e.to_str()) {
        Some("pt" | "pth") => interchange::write(path, &mut checkpoint, args.ema_decay),
        Some("safetensors") => interchange::write_native(path, &mut checkpoint, args.ema_decay),
        _ => bad_input!("--convert {}: the name ends in neither .pt nor .safetensors", path.display()),
    }
}

fn pictures_of(
    args: &Args,
    samples: &Path,
    vae_path: &Path,
    context: &Context,
    sharing: &Sharing,
    (all, mine): (Range<usize>, Range<usize>),
) -> Result<()> {
    let device = device::open_local(args.device, sharing.local(), args.threads)?;
    if let Some(reason) = device::unused_gpu().filter(|_| args.device == DeviceChoice::Auto) {
        context.message(&format!("computing on the CPU: {reason}"));
    }
    device::report(device, context);
    let experts = Experts::read(args, device)?;
    experts.notices().for_each(|notice| context.message(notice));
    let about = experts.about().clone();
    if let Some(reason) = device::unfused(device, about.network.width) {
        context.message(&format!("going on without fused passes: {reason}"));
    }
    let files = Files::find("--vae", vae_path)?;
    let weights = Weights::read(files.weights())?;
    let digest = same_autoencoder(&files, &weights, &about.latents.vae, experts.source())?;
    let vae = Vae::load(weights, device, Kind::Float)?;
    same_channels(&files, vae.config(), &about)?;
    let space = latent_space(args, &about, &files)?;
    let side = about.network.side * vae.config().factor();
    let what = json!({
        "checkpoints": experts.digests(),
        "schedule": about.schedule,
        "heads": about.network.heads,
        "vae": digest,
        "latents": space,
        "steps": args.steps,
        "sampler": args.sampler,
        "eta": args.eta,
        "guidance": args.guidance,
        "guidance-interval": args.guidance_interval,
        "guidance-channels": args.guidance_channels,
        "precision": args.precision,
        "labels": args.labels,
        "seed": args.seed,
        "images": [mine.start, mine.end],
    });
    let mut sampler = Sampler::new(args, experts)?;
    let decoder = Decoder::new(vae, &space, args.guidance);
    let state = sharing.state(context)?;
    let pictures = SampledPictures::resume(&state, &what, side as usize, mine.start)?;
    let report = |done: usize| {
        if sharing.leads() {
            context.progress(done, mine.len(), "images");
        }
    };
    let pictures = fill(pictures, &mut sampler, decoder, &mine, args.batch_size, context, report)?;
    report(mine.len());
    let labels = sampler.labels(mine.start, mine.len());
    let names = about.class_names.clone();
    sharing.output(
        context,
        samples,
        |part| pictures.publish(part, &labels, &names),
        |parts, samples| join::join(parts, samples, all),
    )
}

/// Samples what is missing of these pictures. A batch is decoded and written while the next one is sampled.
fn fill(
    mut pictures: SampledPictures,
    sampler: &mut Sampler,
    decoder: Decoder,
    mine: &Range<usize>,
    batch_size: usize,
    context: &Context,
    report: impl Fn(usize),
) -> Result<SampledPictures> {
    let mut next = pictures.done();
    let (sender, batches) = sync_channel::<(Tensor, usize)>(1);
    let (reporter, written) = channel();
    let writer = std::thread::spawn(move || -> Result<SampledPictures> {
        // libtorch hands the number of threads on to a new thread when that asks for it.
        tch::get_num_threads();
        for (latents, count) in batches {
            pictures.add(&decoder.bytes(&latents, pictures.done())?, count)?;
            // Nobody listens any more when the work was stopped.
            let _ = reporter.send(pictures.done());
        }
        Ok(pictures)
    });
    let mut sampled = Ok(());
    while next < mine.end && sampled.is_ok() {
        if let Some(done) = written.try_iter().last() {
            report(done - mine.start);
        }
        let count = batch_size.min(mine.end - next);
        match sampler.latents(next, count, || context.check_stop()) {
            Ok(latents) => {
                if let Some(notice) = sampler.take_notice() {
                    context.message(&notice);
                }
                // A writer that is gone has failed, and says so below.
                let Ok(()) = sender.send((latents, count)) else { break };
                next += count;
            }
            Err(e) => sampled = Err(e),
        }
    }
    drop(sender);
    let pictures = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    sampled.map(|()| pictures)
}

/// The pictures of this shard, and this process's among them. Both end where batches do, so that each batch is what it would
/// be in one piece.
fn ranges(args: &Args, sharing: &Sharing) -> Result<(Range<usize>, Range<usize>)> {
    let batches = share(args.images.div_ceil(args.batch_size), args.shard, args.shards)?;
    sharing.divides(batches.len(), || {
        format!("--images {} with --batch-size {}", args.images, args.batch_size)
    })?;
    let own = sharing.share(batches.clone())?;
    let pictures = |batches: Range<usize>| {
        args.images.min(batches.start * args.batch_size)..args.images.min(batches.end * args.batch_size)
    };
    Ok((pictures(batches), pictures(own)))
}

//! Encodes pictures as the posterior moments of a VAE, in Parquet shards.
//!
//! Pictures are decoded and cropped ahead of the network in threads of their own; finished shards, and of the one that is being
//! made the batches so far, are kept in the state folder, so that a run that is stopped or killed redoes at most one batch.

mod answers;
mod arguments;
mod join;
mod journal;
mod outputs;
mod prefetcher;
mod shard;
mod statistics;

pub use answers::QUESTIONS;
pub use arguments::Args;

use answers::{side, space};
use anyhow::{Context as _, Result};
use pictures::Pictures;
use prefetcher::{Prefetcher, ShardWork};
use serde::{Deserialize, Serialize};
use shard::{Encoder, Timing};
use shards::{LatentsMetadata, Shard, write_manifest};
use stage::{Context, Staged, read_json, write_json};
use statistics::with_statistics;
use std::fs;
use std::path::Path;
use std::time::Instant;
use torch::Precision;
use torch::device::{self, DeviceChoice};
use torch::parallel::Sharing;
use vae::{Files, Vae};
use weights::Weights;

/// What the shards in the state folder were made from; shards of other work are no use.
#[derive(PartialEq, Serialize, Deserialize)]
struct Fingerprint {
    about: LatentsMetadata,
    images: String,
    shard_rows: usize,
    precision: Precision,
    #[serde(default)]
    channel_statistics: bool,
}

/// The stage's work. Started by `torchrun` or `srun` as one of several processes, each encodes its share, and the first writes.
///
/// # Errors
/// Bad input when a picture cannot be decoded, the weights are none of an autoencoder, or the sizes do not fit.
pub fn encode(args: &Args, context: &Context) -> Result<()> {
    let sharing = Sharing::join(context)?;
    if let Some(parts) = &args.latents_parts {
        return if sharing.leads() { join::join(parts, &args.latents) } else { Ok(()) };
    }
    let device = device::open_local(args.device, sharing.local(), args.threads)?;
    if let Some(reason) = device::unused_gpu().filter(|_| args.device == DeviceChoice::Auto) {
        context.message(&format!("encoding on the CPU: {reason}"));
    }
    device::report(device, context);
    let pictures = Pictures::open(&args.images)?;
    let files = Files::find("--vae", &args.vae)?;
    let weights = Weights::read(files.weights())?;
    let identity = Vae::identity(&weights)?;
    let vae = Vae::load(weights, device, args.precision.kind())?;
    let about = about(args, &vae, &files, identity, &pictures)?;

    let rows = pictures.manifest().rows;
    let plan: Vec<_> =
        (0..rows).step_by(args.shard_rows).map(|first| first..rows.min(first + args.shard_rows)).collect();
    let mine = sharing.share(stage::sharding::share(plan.len(), args.shard, args.shards)?)?;
    let rows: usize = plan[mine.clone()].iter().map(|rows| rows.len()).sum();
    let state = &sharing.state(context)?;
    let fingerprint = Fingerprint {
        about,
        images: stage::digest(&args.images.join("manifest.json"))?,
        shard_rows: args.shard_rows,
        precision: args.precision,
        channel_statistics: args.channel_statistics,
    };
    let mut done = finished(state, &fingerprint, plan.len())?;
    let about = &fingerprint.about;

    let mut todo = Vec::new();
    for (shard, rows) in plan.iter().enumerate() {
        if mine.contains(&shard) && done[shard].is_none() {
            let begun = journal::rows(&state.join(journal_name(shard)), about)?;
            todo.push(ShardWork { shard, rows: (rows.start + begun).min(rows.end)..rows.end });
        }
    }
    let start = Instant::now();
    let mut timing = Timing::default();
    let todo_rows: usize = todo.iter().map(|work| work.rows.len()).sum();
    let mut encoded = rows - todo_rows;
    std::thread::scope(|scope| -> Result<()> {
        let unread = todo.iter().filter(|work| !work.rows.is_empty()).cloned().collect();
        let mut prefetcher = Prefetcher::start(scope, &pictures, unread, args.image_size, args.batch_size);
        for work in &todo {
            let [file, journal] = [name, journal_name].map(|name| state.join(name(work.shard)));
            let mut encoder = Encoder::new(&vae, about, args.channel_statistics, &file, &journal)?;
            while encoder.rows() < plan[work.shard].len() {
                context.check_stop()?;
                encoded += encoder.add(&mut prefetcher, &mut timing)?;
                if sharing.leads() {
                    context.progress(encoded, rows, "images");
                }
            }
            let shard = encoder.finish(&mut timing)?;
            write_json(&state.join(format!("{}.json", name(work.shard))), &shard)?;
            fs::remove_file(&journal).with_context(|| format!("removing {}", journal.display()))?;
            done[work.shard] = Some(shard);
        }
        Ok(())
    })?;
    context.message(&timing.line(todo_rows, start.elapsed()));

    let shards: Vec<Shard> = done.into_iter().take(mine.end).skip(mine.start).flatten().collect();
    sharing.output(context, &args.latents, |part| publish(state, part, about, shards), join::join)?;
    if sharing.several() { Ok(()) } else { clear(state) }
}

/// Puts finished shards into a folder, atomically.
fn publish(state: &Path, latents: &Path, about: &LatentsMetadata, shards: Vec<Shard>) -> Result<()> {
    let staged = Staged::folder(latents, &outputs::LATENTS)?;
    for shard in &shards {
        let (from, to) = (state.join(&shard.path), staged.path().join(&shard.path));
        // A hard link, where both are on one disk: nothing is copied, and the state can go.
        stage::sharding::link(&from, &to)?;
    }
    write_manifest(staged.path(), &with_statistics(about, &shards)?, shards)?;
    staged.commit()
}

/// Latents of these pictures by this autoencoder.
fn about(
    args: &Args,
    vae: &Vae,
    files: &Files,
    identity: String,
    pictures: &Pictures,
) -> Result<LatentsMetadata> {
    let side = side(args, vae.config())?;
    let space = space(args, vae.config(), files)?;
    Ok(LatentsMetadata {
        shape: [vae.config().latent as usize, side, side],
        dtype: "float16".into(),
        scale: space.scale,
        shift: space.shift,
        channels: space.channels,
        vae: identity,
        classes: pictures.manifest().classes,
        class_names: pictures.manifest().class_names.clone(),
        image_size: args.image_size,
        flipped: args.flip,
    })
}

fn name(shard: usize) -> String {
    format!("{shard:05}.parquet")
}

fn journal_name(shard: usize) -> String {
    format!("{shard:05}.batches")
}

/// The shards that an earlier run of the same work has finished.
fn finished(state: &Path, fingerprint: &Fingerprint, shards: usize) -> Result<Vec<Option<Shard>>> {
    let place = state.join("work.json");
    if read_json::<Fingerprint>(&place).ok().as_ref() != Some(fingerprint) {
        clear(state)?;
        write_json(&place, fingerprint)?;
    }
    let shard = |index: usize| {
        let shard: Shard = read_json(&state.join(format!("{}.json", name(index)))).ok()?;
        let whole = stage::digest(&state.join(&shard.path)).is_ok_and(|digest| digest == shard.blake3);
        whole.then_some(shard)
    };
    Ok((0..shards).map(shard).collect())
}

fn clear(state: &Path) -> Result<()> {
    for entry in fs::read_dir(state)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == stage::STATE_MARK) {
            continue;
        }
        // Folders are of processes that shared the work before.
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

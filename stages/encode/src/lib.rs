//! Encodes pictures as the posterior moments of a VAE, in Parquet shards.
//!
//! Pictures are decoded and cropped ahead of the network in threads of their own; finished shards, and of the one that is being
//! made the batches so far, are kept in the state folder, so that a run that is stopped or killed redoes at most one batch.

mod answers;
mod arguments;
mod join;
mod journal;
mod outputs;
mod plan;
mod prefetcher;
mod shard;
mod statistics;

pub use answers::QUESTIONS;
pub use arguments::Args;

use answers::{side, space};
use anyhow::{Context as _, Result};
use journal::journal_name;
use pictures::Pictures;
use prefetcher::{Prefetcher, ShardWork};
use serde::{Deserialize, Serialize};
use shard::{Encoder, ShardFile, Timing, name};
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
    /// Where processes share the shards: it says where their pieces begin.
    #[serde(default)]
    batch_size: Option<usize>,
}

/// The stage's work. Started by `torchrun` or `srun` as one of several processes, each encodes its share, and the first writes.
///
/// # Errors
/// Bad input when a picture cannot be decoded, the weights are none of an autoencoder, or the sizes do not fit.
pub fn encode(args: &Args, context: &Context) -> Result<()> {
    let mut sharing = Sharing::of(context)?;
    if let Some(parts) = &args.latents_parts {
        return if sharing.leads() { join::join(parts, &args.latents) } else { Ok(()) };
    }
    let pictures = Pictures::open(&args.images)?;
    let shards = plan::shards(pictures.manifest().rows, args.shard_rows);
    let wanted = stage::sharding::share(shards.len(), args.shard, args.shards)?;
    let pieces = pieces(args, &pictures, &shards[wanted.clone()], &sharing)?;
    sharing.join()?;
    let device = device::open_local(args.device, sharing.local(), args.threads)?;
    if let Some(reason) = device::unused_gpu().filter(|_| args.device == DeviceChoice::Auto) {
        context.message(&format!("encoding on the CPU: {reason}"));
    }
    device::report(device, context);
    let files = Files::find("--vae", &args.vae)?;
    let weights = Weights::read(files.weights())?;
    let identity = Vae::identity(&weights)?;
    let vae = Vae::load(weights, device, args.precision.kind())?;
    let about = about(args, &vae, &files, identity, &pictures)?;

    let state = &sharing.state(context)?;
    let fingerprint = Fingerprint {
        about,
        images: stage::digest(&args.images.join("manifest.json"))?,
        shard_rows: args.shard_rows,
        precision: args.precision,
        channel_statistics: args.channel_statistics,
        batch_size: sharing.several().then_some(args.batch_size),
    };
    let mut done = finished(state, &fingerprint, shards.len())?;
    let about = &fingerprint.about;

    let mut todo = Vec::new();
    for piece in pieces.iter().filter(|piece| done[piece.shard].is_none()) {
        let begun = journal::rows(&state.join(journal_name(piece.shard)), about)?;
        let rows = (piece.rows.start + begun).min(piece.rows.end)..piece.rows.end;
        todo.push((piece, ShardWork { shard: piece.shard, rows }));
    }
    let rows: usize = pieces.iter().map(|piece| piece.rows.len()).sum();
    let start = Instant::now();
    let mut timing = Timing::default();
    let todo_rows: usize = todo.iter().map(|(_, work)| work.rows.len()).sum();
    let mut encoded = rows - todo_rows;
    std::thread::scope(|scope| -> Result<()> {
        let unread =
            todo.iter().map(|(_, work)| work).filter(|work| !work.rows.is_empty()).cloned().collect();
        let mut prefetcher = Prefetcher::start(scope, &pictures, unread, args.image_size, args.batch_size);
        for (piece, work) in &todo {
            let [file, journal] = [name, journal_name].map(|name| state.join(name(work.shard)));
            let file = plan::is_whole(piece, &shards)
                .then(|| ShardFile::create(&file, about, args.channel_statistics))
                .transpose()?;
            let mut encoder = Encoder::new(&vae, about, file, &journal)?;
            while encoder.rows() < piece.rows.len() {
                context.check_stop()?;
                encoded += encoder.add(&mut prefetcher, &mut timing)?;
                if sharing.leads() {
                    context.progress(encoded, rows, "images");
                }
            }
            if let Some(shard) = encoder.finish(&mut timing)? {
                write_json(&state.join(format!("{}.json", name(work.shard))), &shard)?;
                fs::remove_file(&journal).with_context(|| format!("removing {}", journal.display()))?;
                done[work.shard] = Some(shard);
            }
        }
        Ok(())
    })?;
    context.message(&timing.line(todo_rows, start.elapsed()));

    let whole: Vec<Shard> = done.drain(wanted.clone()).flatten().collect();
    if !sharing.several() {
        publish(state, &args.latents, about, whole)?;
        return clear(state);
    }
    let split = pieces.iter().filter(|piece| !plan::is_whole(piece, &shards)).map(|piece| piece.shard);
    sharing.output(
        context,
        &args.latents,
        |part| publish_part(state, part, about, whole, split),
        |parts, latents| join::join_pieces(parts, latents, about, &shards[wanted], args.channel_statistics),
    )
}

/// What this process encodes of some shards, in order.
fn pieces(
    args: &Args,
    pictures: &Pictures,
    shards: &[ShardWork],
    sharing: &Sharing,
) -> Result<Vec<ShardWork>> {
    let files = pictures.manifest().files.iter().map(|file| file.rows);
    let batches = plan::batches(shards, files, args.batch_size);
    let rows: usize = shards.iter().map(|shard| shard.rows.len()).sum();
    sharing.divides(batches.len(), || format!("{rows} images with --batch-size {}", args.batch_size))?;
    Ok(plan::pieces(&batches[sharing.share(0..batches.len())?]))
}

/// Puts finished shards into a folder, atomically.
fn publish(state: &Path, latents: &Path, about: &LatentsMetadata, shards: Vec<Shard>) -> Result<()> {
    let staged = Staged::folder(latents, &outputs::LATENTS)?;
    link(state, staged.path(), shards.iter().map(|shard| shard.path.clone()))?;
    write_manifest(staged.path(), &with_statistics(about, &shards)?, shards)?;
    staged.commit()
}

/// The same with the journals of pieces, for the process that joins them.
fn publish_part(
    state: &Path,
    part: &Path,
    about: &LatentsMetadata,
    shards: Vec<Shard>,
    split: impl Iterator<Item = usize>,
) -> Result<()> {
    let staged = Staged::folder(part, &outputs::PART)?;
    link(state, staged.path(), shards.iter().map(|shard| shard.path.clone()).chain(split.map(journal_name)))?;
    write_manifest(staged.path(), about, shards)?;
    staged.commit()
}

/// Gives files of one folder a name in another: nothing is copied where both are on one disk, and the state can go.
fn link(from: &Path, to: &Path, names: impl Iterator<Item = String>) -> Result<()> {
    names.into_iter().try_for_each(|name| stage::sharding::link(&from.join(&name), &to.join(&name)))
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

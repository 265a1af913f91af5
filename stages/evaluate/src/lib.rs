//! FID, sFID, Inception Score, precision and recall by the ADM protocol.

pub mod arrays;
pub mod pictures;

mod answers;
mod arguments;
mod classes;
mod features;
mod network;
mod order;
mod outputs;
mod pass;
mod reference;
mod score;
mod scores;

pub use answers::QUESTIONS;
pub use arguments::Args;

use anyhow::Result;
use extractors::inception::{self, Inception};
use features::FeatureSource;
use network::{Dino, Network};
use score::score;
use stage::{Context, bad_input, sha256, write_json};
use std::collections::BTreeMap;
use std::path::Path;
use tch::Device;
use torch::device::{self, DeviceChoice, unused_gpu};
use weights::Weights;

/// Computes what was asked for.
///
/// # Errors
/// Bad input that names the file, the array or the picture at fault.
pub fn evaluate(args: &Args, context: &Context) -> Result<()> {
    let kept = args.statistics.is_some() || args.features.is_some();
    match (&args.samples, &args.scores) {
        (Some(_), None) => bad_input!("--samples is given, but no --scores to write"),
        (None, Some(_)) => bad_input!("--scores needs --samples to score"),
        (None, None) if !kept && args.convert.is_none() => {
            bad_input!("nothing to do: give --samples and --scores, or --statistics, --features or --convert")
        }
        _ => {}
    }
    let threads = args.threads as usize;
    let device = device::open(args.device, threads)?;
    if let Some(reason) = unused_gpu().filter(|_| args.device == DeviceChoice::Auto) {
        context.message(&reason);
    }
    device::report(device, context);
    // Convolutions on a GPU would otherwise round to ten bits.
    torch::shim::set_tf32(false)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut weights = inception::files::read(&args.inception)?;
    if let Some(path) = &args.convert {
        weights = convert(weights, path)?;
    }
    let network = Network {
        inception: Inception::load(weights, device)?,
        sha256: sha256(&args.inception)?,
        dinov2: args.dinov2.as_deref().map(|path| Dino::read(path, device)).transpose()?,
        resize: args.resize,
        batch: args.batch_size as usize,
        threads: if threads == 0 { cores } else { threads },
        device,
    };
    let Some(reference) = &args.reference else {
        if args.scores.is_some() || kept {
            bad_input!("--reference is missing")
        }
        return Ok(());
    };
    let samples = args
        .samples
        .as_deref()
        .map(|path| FeatureSource::open(path, &Args::samples_selection(path)))
        .transpose()?;
    let notes = samples.iter().flat_map(FeatureSource::notes);
    notes.for_each(|note| context.message(&format!("samples: {note}")));
    let side = match (args.image_size, &samples) {
        (Some(side), _) => Some(side as usize),
        (None, Some(samples)) => samples.size()?.filter(|[h, w]| h == w).map(|[h, _]| h),
        (None, None) => None,
    };
    let reference = reference::read(args, reference, &network, side, context)?;
    if let (Some(samples), Some(path), Some(output)) = (samples, &args.samples, &args.scores) {
        let scores = score(args, &network, path, &samples, &reference, context)?;
        scores.table().iter().for_each(|line| context.message(line));
        write_json(output, &scores)?;
    }
    Ok(())
}

/// Writes the weights after they have been found to be a whole network of the family.
fn convert(weights: Weights, path: &Path) -> Result<Weights> {
    let source = weights.source().to_string();
    let tensors = weights.into_tensors()?;
    let shared = || tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
    Inception::load(Weights::new(&source, shared()), Device::Cpu)?;
    let mark = BTreeMap::from([outputs::MADE_BY.map(String::from).into()]);
    weights::write(path, tensors.iter().map(|(name, t)| (name.clone(), t)), &mark)?;
    Ok(Weights::new(source, shared()))
}

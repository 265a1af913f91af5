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
use pass::Set;
use score::score;
use stage::{Context, bad_input, sha256, write_json};
use std::collections::BTreeMap;
use std::path::Path;
use tch::Device;
use torch::device::{self, DeviceChoice, unused_gpu};
use torch::parallel::Sharing;
use weights::Weights;

/// Computes what was asked for, from the features that a killed run of the same work has left, where there are any.
///
/// Started by `torchrun` or `srun` as one of several processes, each computes its share of the features, and the first scores.
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
    let samples = args
        .samples
        .as_deref()
        .map(|path| FeatureSource::open(path, &Args::samples_selection(path)))
        .transpose()?;
    let mut sharing = Sharing::of(context)?;
    if let Some(samples) = &samples {
        pass::divides(samples, Set::Samples, args.batch_size as usize, &sharing)?;
    }
    sharing.join()?;
    let network = network(args, &sharing, context)?;
    if let Some(reference) = &args.reference {
        scores_of(args, samples.as_ref(), reference, &network, &sharing, context)?;
    } else if args.scores.is_some() || kept {
        bad_input!("--reference is missing")
    }
    // The state folder stays until the first process is done with it.
    sharing.wait("waiting for the process that scores")
}

/// The networks, ready on the device of this process.
fn network(args: &Args, sharing: &Sharing, context: &Context) -> Result<Network> {
    let threads = args.threads as usize;
    let device = device::open_local(args.device, sharing.local(), threads)?;
    if let Some(reason) = unused_gpu().filter(|_| args.device == DeviceChoice::Auto) {
        context.message(&reason);
    }
    device::report(device, context);
    // Convolutions on a GPU would otherwise round to ten bits.
    torch::shim::set_tf32(false)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Those of a machine are not there once for each of its processes.
    let all = if sharing.several() { tch::get_num_threads().max(1) as usize } else { cores };
    let mut weights = inception::files::read(&args.inception)?;
    if let Some(path) = args.convert.as_ref().filter(|_| sharing.leads()) {
        weights = convert(weights, path)?;
    }
    Ok(Network {
        inception: Inception::load(weights, device)?,
        sha256: sha256(&args.inception)?,
        dinov2: args.dinov2.as_deref().map(|path| Dino::read(path, device)).transpose()?,
        resize: args.resize,
        batch: args.batch_size as usize,
        threads: if threads == 0 { all } else { threads },
        device,
    })
}

fn scores_of(
    args: &Args,
    samples: Option<&FeatureSource>,
    reference: &Path,
    network: &Network,
    sharing: &Sharing,
    context: &Context,
) -> Result<()> {
    let notes = samples.into_iter().flat_map(FeatureSource::notes).filter(|_| sharing.leads());
    notes.for_each(|note| context.message(&format!("samples: {note}")));
    let side = match (args.image_size, samples) {
        (Some(side), _) => Some(side as usize),
        (None, Some(samples)) => samples.size()?.filter(|[h, w]| h == w).map(|[h, _]| h),
        (None, None) => None,
    };
    let reference = reference::read(args, reference, network, sharing, side, context)?;
    if let (Some(samples), Some(path), Some(output)) = (samples, &args.samples, &args.scores) {
        let scores = score(args, network, sharing, path, samples, reference.as_ref(), context)?;
        let Some(scores) = scores else { return Ok(()) };
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

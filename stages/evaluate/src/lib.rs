//! FID, sFID, Inception Score, precision and recall by the ADM protocol.

pub mod npz;
pub mod pictures;

mod features;
mod reference;
mod scores;

use anyhow::{Context as _, Result};
use metrics::{Distances, Moments, inception_score, precision_recall};
use models::device::{self, DeviceChoice};
use models::inception::resize::Resize;
use models::inception::{self, Inception};
use models::{Weights, device::unused_gpu};
use pictures::Pictures;
use scores::{More, Scores, Side};
use sha2::{Digest, Sha256};
use stage::{BadInputExt, Context, bad_input, write_json};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

stage::arguments! {
    /// Score sampled pictures against reference pictures: FID, sFID, Inception Score, precision and recall, as ADM's
    /// evaluator computes them. Without `--samples` it only keeps the statistics of the reference.
    pub struct Args: "evaluate" {
        /// Pictures to score: a `.npz` with `arr_0` (uint8, `[N, H, W, 3]`), a folder that `sample` wrote, or a folder of
        /// PNG or JPEG files.
        input samples: Option<PathBuf>;
        /// Pictures to compare with: a folder of Parquet files with an `image` column, a folder of PNG or JPEG files, a
        /// `.npz` of pictures, or a `.npz` with `mu`, `sigma`, `mu_s`, `sigma_s` (ADM's reference batches and
        /// `--statistics` of an earlier run).
        input reference: Option<PathBuf>;
        /// Weights of the FID Inception-v3, or of a narrow member of its family: ADM's `classify_image_graph_def.pb`,
        /// pytorch-fid's `.pth`, or safetensors under pytorch-fid's names.
        input inception: PathBuf;
        /// Side to which the reference pictures of a folder are cropped, as ADM does; the samples' size when not given.
        param image_size: Option<u64>, in 1..=4096, unit "pixels";
        /// Most pictures of a reference folder that precision and recall compare with, taken at equal distances from the
        /// whole; a `.npz` is always used whole.
        param reference_images: u64 = 10_000, in 4.., unit "images";
        /// How pictures come to 299 × 299.
        param resize: Resize = Resize::Adm;
        /// Arithmetic of the distances in precision and recall.
        param distances: Distances = Distances::Adm;
        /// Also KID, density, coverage, and the FID of 10,000 where there are more samples.
        param more: bool = false;
        /// Pictures in one pass through the network.
        tuning batch_size: u64 = 64, in 1..=4096, unit "images";
        /// `auto`, `cpu` or `cuda:N`.
        tuning device: DeviceChoice = DeviceChoice::Auto;
        /// CPU threads; 0 takes the cores there are.
        tuning threads: u64 = 0;
        /// JSON of the scores.
        output scores: Option<PathBuf>;
        /// Statistics of the reference as a `.npz`, for the next run and for ADM's own evaluator.
        output statistics: Option<PathBuf>;
        /// The weights of `--inception` as safetensors.
        output convert: Option<PathBuf>;
    }
}

/// The network, and what identifies it in results.
pub(crate) struct Network {
    inception: Inception,
    /// Of the weights file.
    sha256: String,
    resize: Resize,
    batch: usize,
    threads: usize,
}

/// Computes what was asked for.
///
/// # Errors
/// Bad input that names the file, the array or the picture at fault.
pub fn evaluate(args: &Args, context: &Context) -> Result<()> {
    match (&args.samples, &args.scores, &args.statistics) {
        (Some(_), None, _) => bad_input!("--samples is given, but no --scores to write"),
        (None, Some(_), _) => bad_input!("--scores needs --samples to score"),
        (None, None, None) if args.convert.is_none() => {
            bad_input!("nothing to do: give --samples and --scores, or --statistics, or --convert")
        }
        _ => {}
    }
    let threads = args.threads as usize;
    let device = device::open(args.device, threads)?;
    if let Some(reason) = unused_gpu().filter(|_| args.device == DeviceChoice::Auto) {
        context.message(&reason);
    }
    // Convolutions on a GPU would otherwise round to ten bits.
    models::shim::set_tf32(false)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut weights = inception::files::read(&args.inception)?;
    if let Some(path) = &args.convert {
        weights = convert(weights, path)?;
    }
    let network = Network {
        inception: Inception::load(weights, device)?,
        sha256: sha256(&args.inception)?,
        resize: args.resize,
        batch: args.batch_size as usize,
        threads: if threads == 0 { cores } else { threads },
    };
    let Some(reference) = &args.reference else {
        match (&args.scores, &args.statistics) {
            (None, None) => return Ok(()),
            _ => bad_input!("--reference is missing"),
        }
    };
    let samples = args.samples.as_deref().map(Pictures::open).transpose()?;
    let side = match (args.image_size, &samples) {
        (Some(side), _) => Some(side as usize),
        (None, Some(samples)) => Some(samples.first_size()?).filter(|[h, w]| h == w).map(|[h, _]| h),
        (None, None) => None,
    };
    let reference = reference::read(args, reference, &network, side, context)?;
    if let (Some(samples), Some(path)) = (samples, &args.scores) {
        let scores = score(args, &network, &samples, &reference, context)?;
        scores.table().iter().for_each(|line| context.message(line));
        write_json(path, &scores)?;
    }
    Ok(())
}

/// Writes the weights after they have been found to be a whole network of the family.
fn convert(weights: Weights, path: &Path) -> Result<Weights> {
    let source = weights.source().to_string();
    let tensors = weights.into_tensors();
    let shared = || tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
    Inception::load(Weights::new(&source, shared()), Device::Cpu)?;
    models::weights::write(path, tensors.iter().map(|(name, t)| (name.clone(), t)), &BTreeMap::new())?;
    Ok(Weights::new(source, shared()))
}

fn score(
    args: &Args,
    network: &Network,
    samples: &Pictures,
    reference: &reference::Reference,
    context: &Context,
) -> Result<Scores> {
    let width = network.inception.width();
    let mut moments = Moments::new(width);
    let mut spatial_moments: Option<Moments> = None;
    let (mut pools, mut logits): (Vec<Tensor>, Vec<Tensor>) = (Vec::new(), Vec::new());
    let size = samples.first_size()?;
    features::pass(network, samples, None, context, "samples", &mut |_, features| {
        moments.add(&features.pool)?;
        let spatial_width = features.spatial.size()[1];
        spatial_moments.get_or_insert_with(|| Moments::new(spatial_width)).add(&features.spatial)?;
        pools.push(features.pool);
        logits.push(features.logits);
        Ok(())
    })?;
    let mut warnings = reference.warnings.clone();
    context.message("computing scores");
    let spatial = spatial_moments.context("no samples")?.statistics()?;
    let pools = Tensor::f_cat(&pools, 0)?;
    let fid = metrics::frechet(&moments.statistics()?, &reference.pool)?;
    let sfid = metrics::frechet(&spatial, &reference.spatial)?;
    warnings.extend(
        [("FID", fid.warning), ("sFID", sfid.warning)]
            .into_iter()
            .filter_map(|(n, w)| Some(format!("{n}: {}", w?))),
    );
    let inception_score = inception_score(&Tensor::f_cat(&logits, 0)?, metrics::inception_score::SPLIT_SIZE)?;
    if inception_score.is_nan() {
        warnings.push(
            "Inception Score: a probability underflowed to zero, for which ADM's evaluator gives nan".into(),
        );
    }
    let k = metrics::manifold::NEIGHBOURS;
    let blocks = metrics::Blocks::default();
    let fractions = match &reference.features {
        Some(features) => Some(precision_recall(features, &pools, k, args.distances, blocks)?),
        None => {
            warnings.push("precision and recall: the reference holds statistics but no pictures".into());
            None
        }
    };
    warnings.iter().for_each(|warning| context.message(warning));
    Ok(Scores {
        fid: fid.distance,
        sfid: sfid.distance,
        inception_score: Some(inception_score).filter(|x| x.is_finite()),
        precision: fractions.map(|f| f.precision),
        recall: fractions.map(|f| f.recall),
        more: args.more.then(|| more(&pools, reference)).transpose()?,
        samples: Side { images: Some(samples.count()), size },
        reference: reference.note.clone(),
        inception: scores::Weights::of(network),
        resize: args.resize,
        distances: args.distances,
        neighbours: k,
        split_size: metrics::inception_score::SPLIT_SIZE,
        warnings,
    })
}

/// Samples of the smaller of the two usual FIDs.
const FEW: i64 = 10_000;

fn more(pools: &Tensor, reference: &reference::Reference) -> Result<More> {
    let count = pools.size()[0];
    let fid_10k = (count > FEW).then(|| -> Result<f64> {
        let rows: Vec<i64> = (0..FEW).map(|i| i * count / FEW).collect();
        let mut moments = Moments::new(pools.size()[1]);
        moments.add(&pools.f_index_select(0, &Tensor::f_from_slice(&rows)?)?)?;
        Ok(metrics::frechet(&moments.statistics()?, &reference.pool)?.distance)
    });
    let smaller = reference.features.as_ref().map_or(count, |f| f.size()[0].min(count)) as usize;
    let kid_subset_size = smaller.min(metrics::kernel::SUBSET_SIZE);
    let subsets = metrics::kernel::SUBSETS;
    let kid = reference
        .features
        .as_ref()
        .map(|f| metrics::kid(pools, f, subsets, kid_subset_size, metrics::kernel::SEED));
    let kid = kid.transpose()?;
    let k = metrics::manifold::NEIGHBOURS;
    let manifold = reference.features.as_ref().map(|f| metrics::density_coverage(f, pools, k)).transpose()?;
    Ok(More {
        fid_10k: fid_10k.transpose()?,
        kid: kid.map(|k| k.mean),
        kid_deviation: kid.map(|k| k.deviation),
        kid_subsets: subsets,
        kid_subset_size,
        density: manifold.map(|m| m.density),
        coverage: manifold.map(|m| m.coverage),
    })
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let context = || format!("reading {}", path.display());
    let mut file = std::fs::File::open(path).bad_input(context)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).with_context(context)? {
            0 => return Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

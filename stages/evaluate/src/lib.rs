//! FID, sFID, Inception Score, precision and recall by the ADM protocol.

pub mod arrays;
pub mod pictures;

mod classes;
mod features;
mod outputs;
mod reference;
mod scores;

use anyhow::Result;
use extractors::dinov2::DinoV2;
use extractors::inception::resize::Resize;
use extractors::inception::{self, Inception};
use features::file::FeatureWriter;
use features::{FeatureSource, Gathering};
use metrics::{Distances, precision_recall};
use scores::{More, Note, Scores, Side};
use stage::{Context, Staged, bad_input, sha256, write_json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};
use torch::device::unused_gpu;
use torch::device::{self, DeviceChoice};
use weights::Weights;

stage::arguments! {
    /// Score sampled pictures against reference pictures: FID, sFID, Inception Score, precision and recall, as ADM's
    /// evaluator computes them. Without `--samples` it only keeps the statistics or features of the reference.
    pub struct Args: "evaluate" {
        /// Pictures to score: a `.npz` with `arr_0` (uint8, `[N, H, W, 3]`) and perhaps `arr_1` (classes), a folder that
        /// `sample` wrote, a folder of PNG, JPEG or WebP files, Parquet with an `image` column; or the `--features` of an
        /// earlier run, a file or a folder of several that are one set together.
        input samples: Option<PathBuf>;
        /// Pictures to compare with: a folder of Parquet files with an `image` column, a folder of PNG or JPEG files, a
        /// `.npz` of pictures, a `.npz` with `mu`, `sigma`, `mu_s`, `sigma_s` (ADM's reference batches and `--statistics` of
        /// an earlier run), or `--features` of an earlier run.
        input reference: Option<PathBuf>;
        /// Weights of the FID Inception-v3, or of a narrow member of its family: ADM's `classify_image_graph_def.pb`,
        /// pytorch-fid's `.pth`, or safetensors under pytorch-fid's names.
        input inception: PathBuf;
        /// Weights of DINOv2's ViT-L/14 (or S, B) under their published names, `.pth` or safetensors, for FD-DINOv2: Pillow's
        /// bicubic resize to 224 × 224, the normalised class token, as dgm-eval computes it.
        input dinov2: Option<PathBuf>;
        /// Side to which the reference pictures of a folder are cropped, as ADM does; the samples' size when not given.
        param image_size: Option<u64>, in 1..=4096, unit "pixels";
        /// Most pictures of a reference folder that precision and recall compare with, taken at equal distances from the
        /// whole; a `.npz` is always used whole.
        param reference_images: u64 = 10_000, in 4.., unit "images";
        /// How pictures come to 299 × 299.
        param resize: Resize = Resize::Adm;
        /// Arithmetic of the distances in precision and recall.
        param distances: Distances = Distances::Adm;
        /// Also FID∞, KID, density, coverage, the FID of 10,000 where there are more samples, and the FID of each class where
        /// samples and reference have classes.
        param more: bool = false;
        /// Pictures in one pass through the network.
        tuning batch_size: u64 = 64, in 1..=4096, unit "images";
        /// `auto`, `cpu` or `cuda:N`.
        tuning device: DeviceChoice = DeviceChoice::Auto;
        /// CPU threads; 0 takes the cores there are.
        tuning threads: u64 = 0;
        /// JSON of the scores.
        output scores: Option<PathBuf>, known outputs::SCORES;
        /// Statistics of the reference as a `.npz`, for the next run and for ADM's own evaluator.
        output statistics: Option<PathBuf>, known outputs::STATISTICS;
        /// Features of the samples (without `--samples`, of the reference) as Parquet: a row for each picture, with lists
        /// `pool`, `spatial`, `logits` and perhaps `dinov2`, and `label`.
        output features: Option<PathBuf>, known outputs::FEATURES;
        /// The weights of `--inception` as safetensors.
        output convert: Option<PathBuf>, known outputs::CONVERTED;
    }
}

/// The network, and what identifies it in results.
pub(crate) struct Network {
    inception: Inception,
    /// Of the weights file.
    sha256: String,
    dinov2: Option<Dino>,
    resize: Resize,
    batch: usize,
    threads: usize,
    device: Device,
}

impl Network {
    /// Features where distances between them are computed.
    fn on_device(&self, features: [&Tensor; 2]) -> Result<[Tensor; 2]> {
        let [a, b] = features.map(|features| features.f_to_device(self.device));
        Ok([a?, b?])
    }
}

/// The network behind FD-DINOv2.
pub(crate) struct Dino {
    network: DinoV2,
    /// Of the weights file.
    sha256: String,
}

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
    let samples = args.samples.as_deref().map(FeatureSource::open).transpose()?;
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

impl Dino {
    fn read(path: &Path, device: Device) -> Result<Self> {
        let network = DinoV2::load(inception::files::read(path)?, device)?;
        Ok(Self { network, sha256: sha256(path)? })
    }
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

/// What sees the pictures of a batch, where there are any, and which of its rows are kept.
type Also<'a> = dyn FnMut(Option<&pictures::Batch>, &[i64]) -> Result<()> + 'a;

/// A pass over pictures or kept features.
pub(crate) struct Pass<'a> {
    network: &'a Network,
    source: &'a FeatureSource,
    /// Side to which pictures are cropped, where they are no archive.
    side: Option<usize>,
    /// How many features are kept in memory.
    kept: usize,
    /// Where all are kept on disk, with their note.
    file: Option<&'a Path>,
    note: &'a Note,
    /// What they are, for progress.
    unit: &'a str,
}

impl Pass<'_> {
    /// Gathers what scores are made of; `also` sees the pictures of every batch and which of them are kept.
    fn gather(&self, context: &Context, also: &mut Also) -> Result<features::Gathered> {
        let mut gathering = Gathering::new(self.source.count(), self.kept);
        let staged = self.file.map(Staged::file).transpose()?;
        let mut writer = staged.as_ref().map(|staged| FeatureWriter::new(staged.path(), self.note.clone()));
        features::pass(self.network, self.source, self.side, context, self.unit, &mut |batch, rows| {
            if let Some(writer) = &mut writer {
                writer.write(rows)?;
            }
            also(batch, &gathering.add(rows)?)
        })?;
        if let (Some(writer), Some(staged)) = (writer, staged) {
            writer.finish()?;
            staged.commit()?;
        }
        gathering.finish()
    }
}

fn score(
    args: &Args,
    network: &Network,
    path: &Path,
    source: &FeatureSource,
    reference: &reference::Reference,
    context: &Context,
) -> Result<Scores> {
    let count = source.count();
    let mut warnings = reference.warnings.clone();
    warnings.extend(reference::check_source(source, path, network, "samples")?);
    let note = source.provenance(path, network)?;
    let file = args.features.as_deref();
    let pass = Pass { network, source, side: None, kept: count, file, note: &note, unit: "samples" };
    let samples = pass.gather(context, &mut |_, _| Ok(()))?;
    context.message("computing scores");
    let fid = metrics::frechet(&samples.pool, &reference.pool)?;
    let sfid = match &reference.spatial {
        Some(spatial) => Some(metrics::frechet(&samples.spatial, spatial)?),
        None => {
            warnings.push("sFID: the reference holds mu and sigma, but neither mu_s nor sigma_s".into());
            None
        }
    };
    let fd_dinov2 = match (&samples.dinov2, &reference.dinov2) {
        (Some(ours), Some(theirs)) => Some(metrics::frechet(ours, theirs)?),
        (Some(_), None) => {
            warnings.push("FD-DINOv2: the reference holds neither its statistics nor pictures".into());
            None
        }
        (None, _) => None,
    };
    warnings.extend(
        [("FID", fid.warning)]
            .into_iter()
            .chain(sfid.as_ref().map(|f| ("sFID", f.warning.clone())))
            .chain(fd_dinov2.as_ref().map(|f| ("FD-DINOv2", f.warning.clone())))
            .filter_map(|(n, w)| Some(format!("{n}: {}", w?))),
    );
    if samples.inception_score.is_nan() {
        warnings.push(
            "Inception Score: a probability underflowed to zero, for which ADM's evaluator gives nan".into(),
        );
    }
    let k = metrics::manifold::NEIGHBOURS;
    let blocks = metrics::Blocks::default();
    let fractions = match &reference.features {
        Some(features) => {
            let [theirs, ours] = network.on_device([features, &samples.features])?;
            Some(precision_recall(&theirs, &ours, k, args.distances, blocks)?)
        }
        None => {
            warnings.push("precision and recall: the reference holds statistics but no pictures".into());
            None
        }
    };
    let more = args.more.then(|| more(network, &samples, reference, &mut warnings)).transpose()?;
    warnings.iter().for_each(|warning| context.message(warning));
    Ok(Scores {
        fid: fid.distance,
        sfid: sfid.map(|f| f.distance),
        inception_score: Some(samples.inception_score).filter(|x| x.is_finite()),
        precision: fractions.map(|f| f.precision),
        recall: fractions.map(|f| f.recall),
        fd_dinov2: fd_dinov2.map(|f| f.distance),
        more,
        samples: Side { images: count, size: note.size, sha256: note.sha256 },
        reference: reference.note.clone(),
        inception: scores::Weights::of(network),
        dinov2: network.dinov2.as_ref().map(scores::DinoWeights::of),
        resize: args.resize,
        distances: args.distances,
        neighbours: k,
        split_size: metrics::inception_score::SPLIT_SIZE,
        warnings,
    })
}

/// Samples of the smaller of the two usual FIDs.
const FEW: i64 = 10_000;

fn more(
    network: &Network,
    samples: &features::Gathered,
    reference: &reference::Reference,
    warnings: &mut Vec<String>,
) -> Result<More> {
    let pools = &samples.features;
    let count = pools.size()[0];
    let fid_10k = (count > FEW).then(|| -> Result<f64> {
        let rows: Vec<i64> = (0..FEW).map(|i| i * count / FEW).collect();
        let mut moments = metrics::Moments::new(pools.size()[1]);
        moments.add(&pools.f_index_select(0, &Tensor::f_from_slice(&rows)?)?)?;
        Ok(metrics::frechet(&moments.statistics()?, &reference.pool)?.distance)
    });
    let infinity = match count >= 2 * metrics::extrapolation::SIZES {
        true => Some(metrics::extrapolate(pools, &reference.pool, metrics::extrapolation::SEED)?),
        false => {
            warnings.push(format!("FID∞: {count} samples are too few to extrapolate"));
            None
        }
    };
    let smaller = reference.features.as_ref().map_or(count, |f| f.size()[0].min(count)) as usize;
    let kid_subset_size = smaller.min(metrics::kernel::SUBSET_SIZE);
    let subsets = metrics::kernel::SUBSETS;
    let kid = reference
        .features
        .as_ref()
        .map(|f| metrics::kid(pools, f, subsets, kid_subset_size, metrics::kernel::SEED));
    let kid = kid.transpose()?;
    let k = metrics::manifold::NEIGHBOURS;
    let manifold = reference.features.as_ref().map(|features| {
        let [theirs, ours] = network.on_device([features, pools])?;
        metrics::density_coverage(&theirs, &ours, k)
    });
    let manifold = manifold.transpose()?;
    let classes = match (&reference.features, &reference.labels, &samples.labels) {
        (Some(features), Some(theirs), Some(ours)) => classes::distances([pools, features], [ours, theirs])?,
        _ => Vec::new(),
    };
    let fid_classes = (!classes.is_empty())
        .then(|| classes.iter().map(|class| class.fid).sum::<f64>() / classes.len() as f64);
    let (sizes, distances) =
        infinity.as_ref().map(|i| (i.sizes.clone(), i.distances.clone())).unwrap_or_default();
    Ok(More {
        fid_10k: fid_10k.transpose()?,
        fid_infinity: infinity.as_ref().map(|i| i.distance),
        fid_infinity_error: infinity.as_ref().map(|i| i.error),
        fid_infinity_sizes: sizes,
        fid_infinity_distances: distances,
        kid: kid.map(|k| k.mean),
        kid_deviation: kid.map(|k| k.deviation),
        kid_subsets: subsets,
        kid_subset_size,
        density: manifold.map(|m| m.density),
        coverage: manifold.map(|m| m.coverage),
        fid_classes,
        classes,
    })
}

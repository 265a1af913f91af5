//! The scores of samples against a reference.

use crate::arguments::Args;
use crate::classes;
use crate::features::{FeatureSource, Gathered};
use crate::network::Network;
use crate::order::is_by_label;
use crate::pass::{Pass, Set};
use crate::reference::{Reference, check_source};
use crate::scores::{DinoWeights, More, Scores, Side, Weights};
use anyhow::{Result, bail};
use metrics::inception_score::SPLIT_SIZE;
use metrics::{Statistics, precision_recall};
use stage::Context;
use std::path::Path;
use tch::Tensor;
use torch::parallel::Sharing;

/// Scores what `source`, which was found at `path`, gives; a process that does not lead computes its part of the features alone.
///
/// # Errors
/// Bad input that names the file, the array or the picture at fault; a failure where a score is no number.
pub(crate) fn score(
    args: &Args,
    network: &Network,
    sharing: &Sharing,
    path: &Path,
    source: &FeatureSource,
    reference: Option<&Reference>,
    context: &Context,
) -> Result<Option<Scores>> {
    let count = source.count();
    let mut warnings = reference.map(|reference| reference.warnings.clone()).unwrap_or_default();
    warnings.extend(check_source(source, path, network, "samples")?);
    let note = source.provenance(path, network)?;
    let pass = Pass {
        network,
        sharing,
        source,
        set: Set::Samples,
        side: None,
        kept: count,
        pictures: None,
        file: args.features.as_deref(),
        note: &note,
    };
    let samples = pass.gather(context, &mut |_| Ok(()))?;
    let (Some(samples), Some(reference)) = (samples, reference) else { return Ok(None) };
    context.message("computing scores");
    let Distances { fid, sfid, fd_dinov2 } = distances(&samples, reference, &mut warnings)?;
    warnings.extend(of_inception_score(&samples));
    let k = metrics::manifold::NEIGHBOURS;
    let blocks = metrics::Blocks::default();
    let fractions = match &reference.features {
        Some(features) => {
            let [theirs, ours] = network.on_device([features, &samples.features])?;
            Some(precision_recall(&theirs, &ours, k, args.distances, blocks)?)
        }
        None => {
            let scores = if args.more {
                "precision, recall, KID, density and coverage"
            } else {
                "precision and recall"
            };
            warnings.push(format!("{scores}: the reference holds statistics but no pictures"));
            None
        }
    };
    let more = args.more.then(|| more(network, source, &samples, reference, &mut warnings)).transpose()?;
    warnings.iter().for_each(|warning| context.message(warning));
    Ok(Some(Scores {
        fid,
        sfid,
        inception_score: Some(samples.inception_score).filter(|x| x.is_finite()),
        precision: fractions.map(|f| f.precision),
        recall: fractions.map(|f| f.recall),
        fd_dinov2,
        more,
        samples: Side { images: count, size: note.size, sha256: note.sha256 },
        reference: reference.note.clone(),
        inception: Weights::of(network),
        dinov2: network.dinov2.as_ref().map(DinoWeights::of),
        resize: args.resize,
        distances: args.distances,
        neighbours: k,
        split_size: SPLIT_SIZE,
        warnings,
    }))
}

/// The Fréchet distances to the reference, each finite; none where the reference lacks what it takes.
struct Distances {
    fid: f64,
    sfid: Option<f64>,
    fd_dinov2: Option<f64>,
}

/// # Errors
/// A failure where a distance is no number.
fn distances(samples: &Gathered, reference: &Reference, warnings: &mut Vec<String>) -> Result<Distances> {
    let mut distance = |name: &str, ours: &Statistics, theirs: &Statistics| -> Result<f64> {
        let found = metrics::frechet(ours, theirs)?;
        if !found.distance.is_finite() {
            bail!("{name} is {}, which is no score: the features are too large for it", found.distance)
        }
        warnings.extend(found.warning.map(|warning| format!("{name}: {warning}")));
        Ok(found.distance)
    };
    let fid = distance("FID", &samples.pool, &reference.pool)?;
    let spatial = reference.spatial.as_ref();
    let sfid = spatial.map(|theirs| distance("sFID", &samples.spatial, theirs)).transpose()?;
    let both = samples.dinov2.as_ref().zip(reference.dinov2.as_ref());
    let fd_dinov2 = both.map(|(ours, theirs)| distance("FD-DINOv2", ours, theirs)).transpose()?;
    if sfid.is_none() {
        warnings.push(
            "sFID: the reference holds mu and sigma, but neither mu_s and sigma_s nor all pictures".into(),
        );
    }
    // None of the samples: it was not asked for.
    if samples.dinov2.is_some() && fd_dinov2.is_none() {
        let what = match &reference.note.dinov2 {
            Some(_) => "the reference's statistics are of other weights of DINOv2, and it holds no pictures",
            None => "the reference holds neither its statistics nor pictures",
        };
        warnings.push(format!("FD-DINOv2: {what}"));
    }
    Ok(Distances { fid, sfid, fd_dinov2 })
}

/// What a reader of the Inception Score should know.
fn of_inception_score(samples: &Gathered) -> Option<String> {
    if samples.inception_score.is_nan() {
        return Some(
            "Inception Score: a probability underflowed to zero, for which ADM's evaluator gives nan".into(),
        );
    }
    let by_label = samples.labels.as_ref().is_some_and(|labels| is_by_label(labels, SPLIT_SIZE as usize));
    by_label.then(|| {
        format!(
            "Inception Score: the samples are in the order of their labels, and ADM's evaluator scores {SPLIT_SIZE} at a time \
             in that order; in turns, so that every split sees all labels, it would be {:.4} in place of {:.4}",
            samples.inception_score_in_turns,
            samples.inception_score
        )
    })
}

/// Samples of the smaller of the two usual FIDs.
const FEW: i64 = 10_000;

fn more(
    network: &Network,
    source: &FeatureSource,
    samples: &Gathered,
    reference: &Reference,
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
        (Some(features), Some(theirs), Some(ours)) => {
            let names = [source.class_names(), &reference.class_names];
            let theirs = classes::numbers_of(theirs, names);
            classes::distances([pools, features], [ours, &theirs], names[0])?
        }
        _ => {
            let doubts = source.doubts().iter().chain(&reference.doubts);
            warnings.extend(doubts.map(|doubt| format!("FID by class: {doubt}")));
            Vec::new()
        }
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

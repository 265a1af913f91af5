//! What samples are compared with: statistics and the features of some pictures, computed or read.

use crate::npz::{self, Npz, Writer};
use crate::pictures::{Batch, Pictures};
use crate::scores::Note;
use crate::{Args, Network, features, sha256};
use anyhow::{Context as _, Result};
use metrics::{Moments, Statistics};
use stage::{BadInputExt, Context, Staged, bad_input};
use std::path::Path;
use tch::Tensor;

/// Member of our own statistics' files that says how they were made.
const NOTE: &str = "provenance.json";
/// Member with the features of `arr_0`.
const FEATURES: &str = "features";

/// The reference.
pub(crate) struct Reference {
    pub(crate) pool: Statistics,
    pub(crate) spatial: Statistics,
    /// `[N, D]`, for precision and recall.
    pub(crate) features: Option<Tensor>,
    pub(crate) note: Note,
    pub(crate) warnings: Vec<String>,
}

/// Reads statistics where the file holds them, else computes them and, if asked to, keeps them.
pub(crate) fn read(
    args: &Args,
    path: &Path,
    network: &Network,
    side: Option<usize>,
    context: &Context,
) -> Result<Reference> {
    if path.is_file() {
        let mut npz = Npz::open(path)?;
        if npz.has("mu") {
            if let Some(output) = &args.statistics {
                bad_input!(
                    "{} already holds statistics; nothing to write to {}",
                    path.display(),
                    output.display()
                )
            }
            return from_statistics(&mut npz, path, network, context);
        }
    }
    compute(args, path, network, side, context)
}

fn from_statistics(npz: &mut Npz, path: &Path, network: &Network, context: &Context) -> Result<Reference> {
    let (pool, spatial) = (npz::statistics(npz, "")?, npz::statistics(npz, "_s")?);
    if pool.width() != network.inception.width() {
        bad_input!(
            "{}: statistics of {} features, the network gives {}; they were made with other weights",
            path.display(),
            pool.width(),
            network.inception.width()
        )
    }
    let mut warnings = Vec::new();
    let mut note = match npz.note(NOTE)? {
        Some(text) => {
            let note: Note =
                serde_json::from_slice(&text).bad_input(|| format!("{}: {NOTE}", path.display()))?;
            check(&note, path, network)?;
            note
        }
        None => {
            warnings.push(
                "the reference does not say with which weights and resize its statistics were made".into(),
            );
            Note::default()
        }
    };
    note.sha256 = Some(sha256(path)?);
    let features = if note.inception.is_some() && npz.has(FEATURES) {
        Some(npz.numbers(FEATURES)?.f_to_kind(tch::Kind::Float)?)
    } else if npz.has("arr_0") {
        let pictures = Pictures::open(path)?;
        note.size = Some(pictures.first_size()?);
        let mut pools = Vec::new();
        features::pass(network, &pictures, None, context, "reference pictures", &mut |_, f| {
            pools.push(f.pool);
            Ok(())
        })?;
        Some(Tensor::f_cat(&pools, 0)?)
    } else {
        None
    };
    note.precision_recall_images = features.as_ref().map_or(0, |f| f.size()[0] as usize);
    Ok(Reference { pool, spatial, features, note, warnings })
}

/// Statistics of another network or another resize mean nothing here.
fn check(note: &Note, path: &Path, network: &Network) -> Result<()> {
    if let Some(made_with) = note.inception.as_deref().filter(|sha| *sha != network.sha256) {
        bad_input!(
            "{}: made with the weights of SHA-256 {made_with}, --inception has {}; compute the statistics anew",
            path.display(),
            network.sha256
        )
    }
    if let Some(made_with) = note.resize.filter(|resize| *resize != network.resize) {
        bad_input!(
            "{}: made with --resize {made_with}, this run has {}; compute the statistics anew",
            path.display(),
            network.resize
        )
    }
    Ok(())
}

fn compute(
    args: &Args,
    path: &Path,
    network: &Network,
    side: Option<usize>,
    context: &Context,
) -> Result<Reference> {
    let pictures = Pictures::open(path)?;
    let count = pictures.count();
    let kept = if pictures.is_archive() { count } else { count.min(args.reference_images as usize) };
    let first_size = pictures.first_size()?;
    let size = side.filter(|_| !pictures.is_archive()).map_or(first_size, |side| [side, side]);
    let staged = args.statistics.as_deref().map(Staged::file).transpose()?;
    let mut writer = staged.as_ref().map(|staged| Writer::create(staged.path())).transpose()?;
    if let Some(writer) = &mut writer {
        writer.start("arr_0", "|u1", &[kept, size[0], size[1], 3])?;
    }
    let mut moments = Moments::new(network.inception.width());
    let mut spatial: Option<Moments> = None;
    let mut pools = Vec::new();
    features::pass(network, &pictures, side, context, "reference pictures", &mut |batch, features| {
        moments.add(&features.pool)?;
        let width = features.spatial.size()[1];
        spatial.get_or_insert_with(|| Moments::new(width)).add(&features.spatial)?;
        let chosen = chosen(batch, kept, count);
        if let Some(writer) = &mut writer {
            let one = batch.bytes.len() / batch.count;
            chosen.iter().try_for_each(|&i| writer.values(&batch.bytes[i as usize * one..][..one]))?;
        }
        pools.push(features.pool.f_index_select(0, &Tensor::f_from_slice(&chosen)?)?);
        Ok(())
    })?;
    let (pool, spatial) = (moments.statistics()?, spatial.context("no pictures")?.statistics()?);
    let features = Tensor::f_cat(&pools, 0)?;
    let note = Note {
        images: Some(count),
        precision_recall_images: kept,
        size: Some(size),
        inception: Some(network.sha256.clone()),
        resize: Some(network.resize),
        sha256: path.is_file().then(|| sha256(path)).transpose()?,
    };
    if let (Some(mut writer), Some(staged)) = (writer, staged) {
        let arrays = [
            ("mu", &pool.mean),
            ("sigma", &pool.covariance),
            ("mu_s", &spatial.mean),
            ("sigma_s", &spatial.covariance),
            (FEATURES, &features),
        ];
        for (name, tensor) in arrays {
            writer.tensor(name, tensor)?;
        }
        writer.note(NOTE, &serde_json::to_vec_pretty(&note)?)?;
        writer.finish()?;
        staged.commit()?;
    }
    Ok(Reference { pool, spatial, features: Some(features), note, warnings: Vec::new() })
}

/// Which pictures of a batch are among the `kept` of `count`, at equal distances from the whole.
fn chosen(batch: &Batch, kept: usize, count: usize) -> Vec<i64> {
    let before = |i: usize| (i as u128 * kept as u128).div_ceil(count as u128);
    let is_chosen = |i: &usize| before(batch.first + i + 1) > before(batch.first + i);
    (0..batch.count).filter(is_chosen).map(|i| i as i64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_are_spread_evenly_whatever_the_batches() {
        for (kept, count) in [(4, 10), (10, 10), (1, 7), (3, 3), (999, 1000)] {
            let all = |batch: usize| -> Vec<usize> {
                let mut indices = Vec::new();
                for first in (0..count).step_by(batch) {
                    let part = Batch {
                        first,
                        count: batch.min(count - first),
                        bytes: vec![],
                        size: [1, 1],
                        labels: None,
                    };
                    indices.extend(chosen(&part, kept, count).iter().map(|&i| first + i as usize));
                }
                indices
            };
            assert_eq!(all(1).len(), kept);
            assert_eq!(all(1), all(4));
            assert_eq!(all(1)[0], 0);
        }
    }
}

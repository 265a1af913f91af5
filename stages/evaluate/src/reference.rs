//! What samples are compared with: statistics and the features of some pictures, computed or read.

use crate::arguments::Args;
use crate::arrays;
use crate::features::FeatureSource;
use crate::network::Network;
use crate::outputs::STATISTICS_NOTE as NOTE;
use crate::pass::{self, Pass, Set};
use crate::pictures::Pictures;
use crate::scores::Note;
use anyhow::Result;
use metrics::Statistics;
use npz::{Npz, Writer};
use stage::sha256;
use stage::{BadInputExt, Context, Staged, bad_input};
use std::path::Path;
use tch::{Kind, Tensor};
use torch::parallel::Sharing;

/// Member with the features of `arr_0`.
const FEATURES: &str = "features";

/// The reference.
pub(crate) struct Reference {
    pub(crate) pool: Statistics,
    /// Absent where a file holds `mu` and `sigma` alone.
    pub(crate) spatial: Option<Statistics>,
    pub(crate) dinov2: Option<Statistics>,
    /// `[N, D]`, for precision and recall.
    pub(crate) features: Option<Tensor>,
    /// Classes of those.
    pub(crate) labels: Option<Vec<i64>>,
    /// Names of the classes, where they have any.
    pub(crate) class_names: Vec<String>,
    /// Why there are no labels, though there might be.
    pub(crate) doubts: Vec<String>,
    pub(crate) note: Note,
    pub(crate) warnings: Vec<String>,
}

/// Reads statistics where the file holds them, else computes them and, if asked to, keeps them; nothing in a process that has
/// computed its part for another.
pub(crate) fn read(
    args: &Args,
    path: &Path,
    network: &Network,
    sharing: &Sharing,
    side: Option<usize>,
    context: &Context,
) -> Result<Option<Reference>> {
    if !holds_statistics(path) {
        return compute(args, path, network, sharing, side, context);
    }
    for (flag, output) in [("--statistics", &args.statistics), ("--features", &args.features)] {
        if let Some(output) = output.as_ref().filter(|_| flag == "--statistics" || args.samples.is_none()) {
            bad_input!(
                "{} already holds statistics; nothing to write to {flag} {}",
                path.display(),
                output.display()
            )
        }
    }
    from_statistics(args, path, network, sharing, context)
}

fn holds_statistics(path: &Path) -> bool {
    path.is_file() && Npz::open(path).is_ok_and(|npz| npz.has("mu"))
}

fn from_statistics(
    args: &Args,
    path: &Path,
    network: &Network,
    sharing: &Sharing,
    context: &Context,
) -> Result<Option<Reference>> {
    let mut npz = Npz::open(path)?;
    let pool = arrays::statistics(&mut npz, "")?;
    let has_spatial = npz.has("mu_s") || npz.has("sigma_s");
    let spatial = if has_spatial { Some(arrays::statistics(&mut npz, "_s")?) } else { None };
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
    let mut dinov2 = match &network.dinov2 {
        Some(wanted) if note.dinov2.as_ref() == Some(&wanted.sha256) => {
            Some(arrays::statistics(&mut npz, "_dinov2")?)
        }
        _ => None,
    };
    let mut features = None;
    let mut labels = None;
    let class_names = npz::class_names(&mut npz)?;
    if note.inception.is_some() && npz.has(FEATURES) {
        let kept = arrays::tensor(&mut npz, FEATURES)?.f_to_kind(Kind::Float)?;
        labels = npz::labels(&mut npz, kept.size()[0] as usize)?;
        features = Some(kept);
    }
    let wants_dinov2 = network.dinov2.is_some() && dinov2.is_none();
    if npz.has("arr_0") && (features.is_none() || wants_dinov2) {
        let source = FeatureSource::Pictures(Pictures::open(path, &args.reference_selection(path))?);
        let count = source.count();
        note.size = source.size()?;
        let pass = Pass {
            network,
            sharing,
            source: &source,
            set: Set::Reference,
            side: None,
            kept: count,
            pictures: None,
            file: None,
            note: &note,
        };
        let Some(gathered) = pass.gather(context, &mut |_| Ok(()))? else { return Ok(None) };
        features = Some(gathered.features);
        labels = gathered.labels;
        if wants_dinov2 {
            dinov2 = gathered.dinov2;
            note.dinov2 = network.dinov2.as_ref().map(|d| d.sha256.clone());
            note.dinov2_images = Some(count);
            warnings.push(format!(
                "FD-DINOv2: its statistics are of the {count} pictures in the reference's file"
            ));
        }
    }
    note.precision_recall_images = features.as_ref().map_or(0, |f| f.size()[0] as usize);
    let doubts = Vec::new();
    Ok(Some(Reference { pool, spatial, dinov2, features, labels, class_names, doubts, note, warnings }))
}

/// Checks features that were kept; returns what a reader of the numbers should know.
pub(crate) fn check_source(
    source: &FeatureSource,
    path: &Path,
    network: &Network,
    what: &str,
) -> Result<Option<String>> {
    match (source, source.note()) {
        (FeatureSource::Kept(_), None) => {
            Ok(Some(format!("the {what} do not say with which weights and resize their features were made")))
        }
        (_, None) => Ok(None),
        (_, Some(note)) => {
            check(note, path, network)?;
            if let (Some(wanted), made_with) = (&network.dinov2, &note.dinov2)
                && made_with.as_ref() != Some(&wanted.sha256)
            {
                bad_input!("{}: holds no DINOv2 features of these weights; compute them anew", path.display())
            }
            Ok(None)
        }
    }
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
    sharing: &Sharing,
    side: Option<usize>,
    context: &Context,
) -> Result<Option<Reference>> {
    let source = FeatureSource::open(path, &args.reference_selection(path))?;
    if args.samples.is_none() {
        // Beside samples it may be small.
        pass::divides(&source, Set::Reference, network.batch, sharing)?;
    }
    let notes = source.notes().iter().filter(|_| sharing.leads());
    notes.for_each(|note| context.message(&format!("reference: {note}")));
    let warnings: Vec<String> =
        check_source(&source, path, network, "reference pictures")?.into_iter().collect();
    let count = source.count();
    let archive = matches!(&source, FeatureSource::Pictures(pictures) if pictures.is_archive());
    let kept = if archive { count } else { count.min(args.reference_images as usize) };
    let mut size = source.size()?;
    if let (FeatureSource::Pictures(_), Some(side), false) = (&source, side, archive) {
        size = Some([side, side]);
    }
    let note = Note { precision_recall_images: kept, size, ..source.provenance(path, network)? };
    let staged = args.statistics.as_deref().filter(|_| sharing.leads()).map(Staged::file).transpose()?;
    let mut writer = staged.as_ref().map(|staged| Writer::create(staged.path())).transpose()?;
    let pictures = size.filter(|_| args.statistics.is_some() && matches!(source, FeatureSource::Pictures(_)));
    if let (Some(writer), Some([height, width])) = (&mut writer, pictures) {
        writer.start("arr_0", "|u1", &[kept, height, width, 3])?;
    }
    let pass = Pass {
        network,
        sharing,
        source: &source,
        set: Set::Reference,
        side,
        kept,
        pictures,
        file: args.features.as_deref().filter(|_| args.samples.is_none()),
        note: &note,
    };
    let gathered = pass.gather(context, &mut |bytes| match &mut writer {
        Some(writer) => writer.values(bytes),
        None => Ok(()),
    })?;
    let Some(gathered) = gathered else { return Ok(None) };
    if let (Some(mut writer), Some(staged)) = (writer, staged) {
        let (pool, spatial) = (&gathered.pool, &gathered.spatial);
        let mut arrays = vec![
            ("mu", &pool.mean),
            ("sigma", &pool.covariance),
            ("mu_s", &spatial.mean),
            ("sigma_s", &spatial.covariance),
            (FEATURES, &gathered.features),
        ];
        if let Some(dinov2) = &gathered.dinov2 {
            arrays.extend([("mu_dinov2", &dinov2.mean), ("sigma_dinov2", &dinov2.covariance)]);
        }
        for (name, tensor) in arrays {
            arrays::write(&mut writer, name, tensor)?;
        }
        if let Some(labels) = &gathered.labels {
            writer.integers("arr_1", labels)?;
            npz::name_classes(&mut writer, source.class_names())?;
        }
        writer.note(NOTE, &serde_json::to_vec_pretty(&note)?)?;
        writer.finish()?;
        staged.commit()?;
    }
    Ok(Some(Reference {
        pool: gathered.pool,
        spatial: Some(gathered.spatial),
        dinov2: gathered.dinov2,
        features: Some(gathered.features),
        labels: gathered.labels,
        class_names: source.class_names().to_vec(),
        doubts: source.doubts().to_vec(),
        note,
        warnings,
    }))
}

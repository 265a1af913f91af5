//! Features of pictures, batch by batch: computed in one pass, or read from where an earlier run kept them.

pub mod file;

mod gather;

pub(crate) use gather::{Gathered, Gathering};

use crate::network::{Dino, Network};
use crate::pictures::{Batch, Pictures};
use crate::scores::Note;
use anyhow::{Result, bail};
use extractors::dinov2;
use extractors::inception::resize::{RawPictures, prepare};
use file::FeatureFiles;
use pictures::{Filter, Rgb, Selection, resize};
use rayon::prelude::*;
use stage::sha256;
use stage::{Context, bad_input};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use tch::{Device, Kind, Tensor};

/// Batches that wait between reading and computing.
const AHEAD: usize = 2;

/// Features of consecutive pictures, on the CPU.
pub struct Rows {
    /// Index of the first.
    pub first: usize,
    /// `[B, D]`.
    pub pool: Tensor,
    /// `[B, 17·17·c]`.
    pub spatial: Tensor,
    /// `[B, classes]`.
    pub logits: Tensor,
    /// `[B, width]`, where that network was given.
    pub dinov2: Option<Tensor>,
    /// Their classes, where all have one.
    pub labels: Option<Vec<i64>>,
}

impl Rows {
    /// How many.
    pub fn count(&self) -> usize {
        self.pool.size()[0] as usize
    }
}

/// Where features come from.
pub(crate) enum FeatureSource {
    Pictures(Pictures),
    Kept(FeatureFiles),
}

impl FeatureSource {
    /// Finds kept features or pictures at a path.
    pub(crate) fn open(path: &Path, selection: &Selection) -> Result<Self> {
        match FeatureFiles::open(path)? {
            Some(kept) => Ok(Self::Kept(kept)),
            None => Ok(Self::Pictures(Pictures::open(path, selection)?)),
        }
    }

    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Pictures(pictures) => pictures.count(),
            Self::Kept(kept) => kept.count(),
        }
    }

    /// Height and width of the pictures, where they are known.
    pub(crate) fn size(&self) -> Result<Option<[usize; 2]>> {
        match self {
            Self::Pictures(pictures) => pictures.first_size().map(Some),
            Self::Kept(kept) => Ok(kept.note().and_then(|note| note.size)),
        }
    }

    /// How the features were made or will be; kept ones that do not say leave it open.
    pub(crate) fn provenance(&self, path: &Path, network: &Network) -> Result<Note> {
        let made = match self {
            Self::Pictures(_) => Note {
                inception: Some(network.sha256.clone()),
                dinov2: network.dinov2.as_ref().map(|d| d.sha256.clone()),
                resize: Some(network.resize),
                ..Note::default()
            },
            Self::Kept(kept) => kept.note().cloned().unwrap_or_default(),
        };
        let digest = path.is_file().then(|| sha256(path)).transpose()?;
        Ok(Note { images: Some(self.count()), size: self.size()?, sha256: digest, ..made })
    }

    /// What a person should know of how pictures were found.
    pub(crate) fn notes(&self) -> &[String] {
        match self {
            Self::Pictures(pictures) => pictures.notes(),
            Self::Kept(_) => &[],
        }
    }

    /// Why pictures have no classes though they might.
    pub(crate) fn doubts(&self) -> &[String] {
        match self {
            Self::Pictures(pictures) => pictures.doubts(),
            Self::Kept(_) => &[],
        }
    }

    /// The names of the classes, by number; empty where they are not known.
    pub(crate) fn class_names(&self) -> &[String] {
        match self {
            Self::Pictures(pictures) => pictures.class_names(),
            Self::Kept(_) => &[],
        }
    }

    /// What kept features say of themselves.
    pub(crate) fn note(&self) -> Option<&Note> {
        match self {
            Self::Pictures(_) => None,
            Self::Kept(kept) => kept.note(),
        }
    }
}

/// Gives the features of all pictures in order, and the pictures themselves where there are any.
///
/// # Errors
/// Those of reading, of the network and of `give`.
pub(crate) fn pass(
    network: &Network,
    source: &FeatureSource,
    side: Option<usize>,
    context: &Context,
    unit: &str,
    give: &mut dyn FnMut(Option<&Batch>, &Rows) -> Result<()>,
) -> Result<()> {
    let total = source.count();
    context.progress(0, total, unit);
    let mut give = |batch: Option<&Batch>, rows: &Rows| {
        context.check_stop()?;
        give(batch, rows)?;
        context.progress(rows.first + rows.count(), total, unit);
        Ok(())
    };
    let pictures = match source {
        FeatureSource::Pictures(pictures) => pictures,
        FeatureSource::Kept(kept) => return kept.read(network, &mut |rows| give(None, &rows)),
    };
    let (send, receive) = sync_channel::<(Batch, Tensor, Option<Tensor>)>(AHEAD);
    let (batch_size, resize, threads) = (network.batch, network.resize, network.threads);
    let with_dinov2 = network.dinov2.is_some();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            pictures.batches(side, batch_size, &mut |batch| {
                let picture = RawPictures { bytes: &batch.bytes, size: batch.size };
                let prepared = prepare(&picture, resize, threads)?;
                let for_dinov2 = with_dinov2.then(|| prepare_dinov2(&batch)).transpose()?;
                // A closed channel means that the other side has failed and says why.
                send.send((batch, prepared, for_dinov2)).map_err(|_| anyhow::anyhow!("stopped early"))
            })
        });
        let mut computed = Ok(());
        for (batch, prepared, for_dinov2) in receive {
            computed = compute(network, &batch, &prepared, for_dinov2.as_ref())
                .and_then(|rows| give(Some(&batch), &rows));
            if computed.is_err() {
                break;
            }
        }
        let read = reader.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the reader stopped by a fault")));
        computed.and(read)
    })
}

fn compute(network: &Network, batch: &Batch, prepared: &Tensor, for_dinov2: Option<&Tensor>) -> Result<Rows> {
    let features = network.inception.features(prepared)?;
    let named = [("pool", &features.pool), ("spatial", &features.spatial), ("logits", &features.logits)];
    for (name, tensor) in named {
        finite(name, tensor, batch)?;
    }
    let dinov2 = match (&network.dinov2, for_dinov2) {
        (Some(Dino { network, .. }), Some(pictures)) => {
            let features = network.features(pictures)?;
            finite("dinov2", &features, batch)?;
            Some(features.f_to_device(Device::Cpu)?)
        }
        _ => None,
    };
    Ok(Rows {
        first: batch.first,
        pool: features.pool.f_to_device(Device::Cpu)?,
        spatial: features.spatial.f_to_device(Device::Cpu)?,
        logits: features.logits.f_to_device(Device::Cpu)?,
        dinov2,
        labels: batch.labels.clone(),
    })
}

/// Features are numbers, or nothing that is made of them is one.
fn finite(name: &str, features: &Tensor, batch: &Batch) -> Result<()> {
    if weights::finite(features)? {
        return Ok(());
    }
    let whole = features.f_isfinite()?.f_flatten(1, -1)?.f_all_dim(1, false)?; // [B]
    let whole = Vec::<bool>::try_from(whole.f_to_device(Device::Cpu)?)?;
    let at = whole.iter().position(|whole| !whole).unwrap_or(0);
    bail!("the features {name} of picture {} hold numbers that are none (NaN or infinite)", batch.first + at)
}

/// Pillow's bicubic of 8-bit pictures to 224 × 224, less the mean of ImageNet, over its deviation: what dgm-eval, which
/// defined FD-DINOv2, feeds by default.
///
/// # Shapes
/// Returns `[B, 3, 224, 224]`.
fn prepare_dinov2(batch: &Batch) -> Result<Tensor> {
    const SIDE: usize = dinov2::INPUT_SIZE;
    let [height, width] = batch.size;
    let one = |bytes: &[u8]| -> Vec<f32> {
        let picture = Rgb { width, height, pixels: bytes.to_vec() };
        let picture = resize(&picture, SIDE, SIDE, Filter::Bicubic);
        let channel = |c: usize| {
            picture
                .pixels
                .iter()
                .skip(c)
                .step_by(3)
                .map(move |&p| (f32::from(p) / 255.0 - dinov2::MEAN[c]) / dinov2::DEVIATION[c])
        };
        (0..3).flat_map(channel).collect()
    };
    if batch.bytes.len() != batch.count * height * width * 3 {
        bad_input!("{} bytes are no {} pictures of {width} × {height}", batch.bytes.len(), batch.count)
    }
    let values: Vec<f32> = batch.bytes.par_chunks(height * width * 3).flat_map_iter(one).collect();
    let side = SIDE as i64;
    Ok(Tensor::f_from_slice(&values)?.f_view([batch.count as i64, 3, side, side])?.f_to_kind(Kind::Float)?)
}

//! Features of pictures, computed batch by batch: pictures are read and resized ahead of the network, features kept behind it.

use super::{Parts, Rows};
use crate::network::{Dino, Network};
use crate::pictures::{Batch, Pictures};
use anyhow::{Result, anyhow, bail};
use extractors::dinov2;
use extractors::inception::resize::{RawPictures, prepare};
use pictures::{Filter, Rgb, resize};
use rayon::prelude::*;
use stage::bad_input;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle, scope};
use tch::{Device, Kind, Tensor};

/// Batches that wait between reading and computing, and between computing and keeping.
const AHEAD: usize = 2;

/// Pictures whose features are wanted.
pub(crate) struct Computing<'a> {
    pub(crate) network: &'a Network,
    pub(crate) pictures: &'a Pictures,
    /// Side to which pictures are cropped, where they are no archive.
    pub(crate) side: Option<usize>,
    /// Which of them: whole batches.
    pub(crate) range: Range<usize>,
    /// Where features are kept.
    pub(crate) parts: &'a Parts,
}

/// What happened beside it.
pub(crate) struct Computed {
    /// How many pictures had their features from an earlier run.
    pub(crate) found: usize,
    /// Why features could not be kept, if they could not.
    pub(crate) unkept: Option<anyhow::Error>,
}

/// A batch on its way to the network.
struct Ready {
    batch: Batch,
    /// Of what its features are made from.
    digest: String,
    work: Work,
}

enum Work {
    /// An earlier run has made its features.
    Done(Rows),
    Todo {
        prepared: Tensor,
        for_dinov2: Option<Tensor>,
    },
}

impl Computing<'_> {
    /// Gives the pictures and their features, batch by batch in order.
    ///
    /// # Errors
    /// Those of reading, of the network and of `give`.
    pub(crate) fn run(&self, give: &mut dyn FnMut(&Batch, &Rows) -> Result<()>) -> Result<Computed> {
        scope(|scope| {
            let (reader, batches) = self.read_ahead(scope);
            let (keeper, keep) = self.keep_behind(scope);
            let mut found = 0;
            let mut computed = Ok(());
            for Ready { batch, digest, work } in batches {
                computed = match work {
                    Work::Done(rows) => {
                        found += rows.count();
                        Ok(rows)
                    }
                    Work::Todo { prepared, for_dinov2 } => {
                        let rows = compute(self.network, &batch, &prepared, for_dinov2.as_ref());
                        // A keeper that has ended says why below.
                        rows.inspect(|rows| drop(keep.send((digest, rows.shared()))))
                    }
                }
                .and_then(|rows| give(&batch, &rows));
                if computed.is_err() {
                    break;
                }
            }
            drop(keep);
            let unkept = joined(keeper).err();
            let read = joined(reader);
            computed.and(read).map(|()| Computed { found, unkept })
        })
    }

    fn read_ahead<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
    ) -> (ScopedJoinHandle<'s, Result<()>>, Receiver<Ready>) {
        let (send, receive) = sync_channel(AHEAD);
        let (pictures, side, range, parts) = (self.pictures, self.side, self.range.clone(), self.parts);
        let (batch_size, resize, threads) = (self.network.batch, self.network.resize, self.network.threads);
        let with_dinov2 = self.network.dinov2.is_some();
        let reader = scope.spawn(move || {
            pictures.batches(side, range, batch_size, &mut |batch| {
                let digest = parts.digest(&batch);
                let work = match parts.find(batch.first, &digest) {
                    Some(rows) => Work::Done(rows),
                    None => {
                        let picture = RawPictures { bytes: &batch.bytes, size: batch.size };
                        let prepared = prepare(&picture, resize, threads)?;
                        let for_dinov2 = with_dinov2.then(|| prepare_dinov2(&batch)).transpose()?;
                        Work::Todo { prepared, for_dinov2 }
                    }
                };
                // A closed channel means that the other side has failed and says why.
                send.send(Ready { batch, digest, work }).map_err(|_| anyhow!("stopped early"))
            })
        });
        (reader, receive)
    }

    fn keep_behind<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
    ) -> (ScopedJoinHandle<'s, Result<()>>, SyncSender<(String, Rows)>) {
        let (send, receive) = sync_channel::<(String, Rows)>(AHEAD);
        let parts = self.parts;
        let keeper = scope
            .spawn(move || receive.into_iter().try_for_each(|(digest, rows)| parts.keep(&digest, &rows)));
        (keeper, send)
    }
}

fn joined(thread: ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("a thread stopped by a fault")))
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

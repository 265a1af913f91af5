//! A pass over pictures or kept features, in which what scores are made of is gathered.
//!
//! Of several processes each computes the features of some batches, and leaves them in the state folder; the first gathers.

use crate::features::file::FeatureWriter;
use crate::features::{Computed, Computing, FeatureSource, Gathered, Gathering, Parts, Rows, chosen};
use crate::network::Network;
use crate::pictures::{Batch, Pictures};
use crate::scores::Note;
use anyhow::{Context as _, Result, ensure};
use stage::{Context, Staged};
use std::ops::Range;
use std::path::Path;
use torch::parallel::Sharing;

/// What sees the bytes of the pictures that stand for all, batch by batch.
type Also<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Which pictures they are.
#[derive(Clone, Copy)]
pub(crate) enum Set {
    Samples,
    Reference,
}

impl Set {
    /// For people; of progress too.
    fn shown(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Reference => "reference pictures",
        }
    }

    /// Its folder of the state folder.
    fn folder(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Reference => "reference",
        }
    }
}

/// A pass over pictures or kept features.
pub(crate) struct Pass<'a> {
    pub(crate) network: &'a Network,
    pub(crate) sharing: &'a Sharing,
    pub(crate) source: &'a FeatureSource,
    pub(crate) set: Set,
    /// Side to which pictures are cropped, where they are no archive.
    pub(crate) side: Option<usize>,
    /// How many features are kept in memory.
    pub(crate) kept: usize,
    /// Height and width of pictures, where those of the kept features are wanted too.
    pub(crate) pictures: Option<[usize; 2]>,
    /// Where all are kept on disk, with their note.
    pub(crate) file: Option<&'a Path>,
    pub(crate) note: &'a Note,
}

/// Refuses pictures that make fewer batches than there are processes.
///
/// # Errors
/// Bad input when they do.
pub(crate) fn divides(source: &FeatureSource, set: Set, batch: usize, sharing: &Sharing) -> Result<()> {
    match source {
        // Read by the first process.
        FeatureSource::Kept(_) => Ok(()),
        FeatureSource::Pictures(pictures) => {
            let count = pictures.count();
            let what = || format!("{count} {} with --batch-size {batch}", set.shown());
            sharing.divides(count.div_ceil(batch), what)
        }
    }
}

impl Pass<'_> {
    /// Gathers what scores are made of, in the first process; `also` sees the pictures of the kept features where they are
    /// wanted.
    pub(crate) fn gather(&self, context: &Context, also: &mut Also) -> Result<Option<Gathered>> {
        let (count, batch) = (self.source.count(), self.network.batch);
        let batches = self.sharing.share(0..count.div_ceil(batch))?;
        let mine = batches.start * batch..count.min(batches.end * batch);
        let computed = match self.source {
            FeatureSource::Pictures(pictures) => {
                Some((pictures, Parts::of(context.state()?, self.set.folder(), self.network)?))
            }
            FeatureSource::Kept(_) => None,
        };
        if let Some((pictures, parts)) = computed.as_ref().filter(|_| self.sharing.several()) {
            self.compute(pictures, parts, mine.clone(), context)?;
            self.sharing.wait("waiting for the features of the other processes")?;
        }
        if !self.sharing.leads() {
            return Ok(None);
        }
        let mut gathering = Gathering::new(count, self.kept);
        let staged = self.file.map(Staged::file).transpose()?;
        let mut writer = staged.as_ref().map(|staged| FeatureWriter::new(staged.path(), self.note.clone()));
        let mut add = |rows: &Rows| {
            if let Some(writer) = &mut writer {
                writer.write(rows)?;
            }
            gathering.add(rows)
        };
        match (self.source, &computed) {
            (FeatureSource::Kept(kept), _) => {
                self.report(0, kept.count(), context);
                kept.read(self.network, &mut |rows| {
                    context.check_stop()?;
                    add(&rows)?;
                    self.report(rows.first + rows.count(), kept.count(), context);
                    Ok(())
                })?;
            }
            (_, Some((_, parts))) if self.sharing.several() => {
                for first in (0..count).step_by(batch) {
                    context.check_stop()?;
                    let chosen = add(&parts.read(first)?)?;
                    if let Some(size) = self.pictures {
                        also(&parts.read_pictures(first, chosen.len(), size)?)?;
                    }
                }
            }
            (_, Some((pictures, parts))) => {
                let computed = self.go(pictures, parts, mine, context, &mut |batch, rows| {
                    let chosen = add(rows)?;
                    if self.pictures.is_some() { also(&picked(batch, &chosen)) } else { Ok(()) }
                })?;
                if let Some(e) = computed.unkept {
                    let shown = self.set.shown();
                    context.message(&format!(
                        "the features of the {shown} could not be kept for a later run: {e:#}"
                    ));
                }
            }
            (_, None) => {}
        }
        if let (Some(writer), Some(staged)) = (writer, staged) {
            writer.finish()?;
            staged.commit()?;
        }
        gathering.finish().map(Some)
    }

    /// Computes this process's part for the one that gathers.
    fn compute(
        &self,
        pictures: &Pictures,
        parts: &Parts,
        mine: Range<usize>,
        context: &Context,
    ) -> Result<()> {
        let computed = self.go(pictures, parts, mine, context, &mut |batch, _| {
            let Some(size) = self.pictures else { return Ok(()) };
            ensure!(batch.size == size, "pictures of {:?} where {size:?} were expected", batch.size);
            let chosen = chosen(batch.first, batch.count, self.kept, self.source.count());
            parts.keep_pictures(batch.first, &picked(batch, &chosen))
        })?;
        computed
            .unkept
            .map_or(Ok(()), |e| Err(e).context("handing features to the process that gathers them"))
    }

    fn go(
        &self,
        pictures: &Pictures,
        parts: &Parts,
        range: Range<usize>,
        context: &Context,
        give: &mut dyn FnMut(&Batch, &Rows) -> Result<()>,
    ) -> Result<Computed> {
        let (first, total) = (range.start, range.len());
        self.report(0, total, context);
        let computing = Computing { network: self.network, pictures, side: self.side, range, parts };
        let computed = computing.run(&mut |batch, rows| {
            context.check_stop()?;
            give(batch, rows)?;
            self.report(rows.first + rows.count() - first, total, context);
            Ok(())
        })?;
        if computed.found > 0 {
            let (found, shown) = (computed.found, self.set.shown());
            context.message(&format!(
                "the features of {found} of {total} {shown} were there from an earlier run"
            ));
        }
        Ok(computed)
    }

    fn report(&self, done: usize, total: usize, context: &Context) {
        if self.sharing.leads() {
            context.progress(done, total, self.set.shown());
        }
    }
}

/// The bytes of some pictures of a batch.
fn picked(batch: &Batch, rows: &[i64]) -> Vec<u8> {
    let one = batch.bytes.len() / batch.count;
    rows.iter().flat_map(|row| &batch.bytes[*row as usize * one..][..one]).copied().collect()
}

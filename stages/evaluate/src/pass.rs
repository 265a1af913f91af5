//! A pass over pictures or kept features, in which what scores are made of is gathered.

use crate::features::file::FeatureWriter;
use crate::features::{self, FeatureSource, Gathered, Gathering};
use crate::network::Network;
use crate::pictures::Batch;
use crate::scores::Note;
use anyhow::Result;
use stage::{Context, Staged};
use std::path::Path;

/// What sees the pictures of a batch, where there are any, and which of its rows are kept.
type Also<'a> = dyn FnMut(Option<&Batch>, &[i64]) -> Result<()> + 'a;

/// A pass over pictures or kept features.
pub(crate) struct Pass<'a> {
    pub(crate) network: &'a Network,
    pub(crate) source: &'a FeatureSource,
    /// Side to which pictures are cropped, where they are no archive.
    pub(crate) side: Option<usize>,
    /// How many features are kept in memory.
    pub(crate) kept: usize,
    /// Where all are kept on disk, with their note.
    pub(crate) file: Option<&'a Path>,
    pub(crate) note: &'a Note,
    /// What they are, for progress.
    pub(crate) unit: &'a str,
}

impl Pass<'_> {
    /// Gathers what scores are made of; `also` sees the pictures of every batch and which of them are kept.
    pub(crate) fn gather(&self, context: &Context, also: &mut Also) -> Result<Gathered> {
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

//! Features of pictures, batch by batch: computed, or read from where an earlier run kept them.

pub mod file;

mod computing;
mod gather;
mod parts;

pub(crate) use computing::{Computed, Computing};
pub(crate) use gather::{Gathered, Gathering, chosen};
pub(crate) use parts::Parts;

use crate::network::Network;
use crate::pictures::Pictures;
use crate::scores::Note;
use anyhow::Result;
use file::FeatureFiles;
use pictures::Selection;
use stage::sha256;
use std::path::Path;
use tch::Tensor;

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

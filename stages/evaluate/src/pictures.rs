//! Where pictures come from: an archive of one array, or a dataset as `download` reads it; all streamed.

use anyhow::Result;
use npz::Npz;
use pictures::{Dataset, Encoded, Rgb, Selection, center_crop, is_parquet};
use rayon::prelude::*;
use stage::{BadInputExt, bad_input};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Pictures in order.
pub struct Pictures {
    source: Collection,
    path: PathBuf,
    count: usize,
}

enum Collection {
    Archive { size: [usize; 2], class_names: Vec<String> },
    Dataset(Dataset),
}

/// Consecutive pictures of one size.
pub struct Batch {
    /// Index of the first.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// `[count, H, W, 3]`.
    pub bytes: Vec<u8>,
    /// Height and width.
    pub size: [usize; 2],
    /// Their classes, where all have one.
    pub labels: Option<Vec<i64>>,
}

impl Pictures {
    /// Finds the pictures of a `.npz`, of a folder with `samples.npz` (as `sample` writes it), or of a dataset: a Parquet file, or
    /// a folder of Parquet files, of pictures, or of a folder for each class.
    ///
    /// # Errors
    /// Bad input when there are none, or it is not clear which are meant.
    pub fn open(path: &Path, selection: &Selection) -> Result<Self> {
        let archive = if path.is_dir() { path.join("samples.npz") } else { path.to_path_buf() };
        if archive.is_file() && !is_parquet(&archive)? {
            let mut npz = Npz::open(&archive)?;
            let [count, height, width] = npz::picture_shape(&mut npz)?;
            let source =
                Collection::Archive { size: [height, width], class_names: npz::class_names(&mut npz)? };
            return Self { source, path: archive, count }.checked();
        }
        let dataset = Dataset::open(path, selection, &|| Ok(()))?;
        let count = dataset.count();
        Self { source: Collection::Dataset(dataset), path: path.into(), count }.checked()
    }

    fn checked(self) -> Result<Self> {
        if self.count == 0 {
            bad_input!("{}: no pictures", self.path.display())
        }
        Ok(self)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether they stand in an archive of one array.
    pub fn is_archive(&self) -> bool {
        matches!(self.source, Collection::Archive { .. })
    }

    /// What a person should know of how they were found.
    pub fn notes(&self) -> &[String] {
        match &self.source {
            Collection::Archive { .. } => &[],
            Collection::Dataset(dataset) => &dataset.notes,
        }
    }

    /// Why they have no classes though they might.
    pub fn doubts(&self) -> &[String] {
        match &self.source {
            Collection::Archive { .. } => &[],
            Collection::Dataset(dataset) => &dataset.doubts,
        }
    }

    /// The names of their classes, by number; empty where there are none.
    pub fn class_names(&self) -> &[String] {
        match &self.source {
            Collection::Archive { class_names, .. } => class_names,
            Collection::Dataset(dataset) => dataset.classes.as_ref().map_or(&[], |classes| &classes.names),
        }
    }

    /// Height and width, by the first picture.
    ///
    /// # Errors
    /// Bad input when it cannot be decoded.
    pub fn first_size(&self) -> Result<[usize; 2]> {
        let dataset = match &self.source {
            Collection::Archive { size, .. } => return Ok(*size),
            Collection::Dataset(dataset) => dataset,
        };
        match dataset.iter().next() {
            Some(first) => self.decode(&first?, None).map(|p| [p.height, p.width]),
            None => bad_input!("{}: no pictures", self.path.display()),
        }
    }

    /// Gives the pictures of `range`, as far as there are so many, in batches, cropped to squares of `side` where it is given and they are no archive.
    ///
    /// # Errors
    /// Bad input that names the first picture that cannot be decoded or has another size than those before it; or the
    /// callback's.
    pub fn batches(
        &self,
        side: Option<usize>,
        range: Range<usize>,
        batch: usize,
        give: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        let range = range.start..range.end.min(self.count);
        if range.is_empty() {
            return Ok(());
        }
        match &self.source {
            Collection::Archive { size, .. } => self.archived(*size, range, batch, give),
            Collection::Dataset(dataset) => self.decoded(dataset, side, range, batch, give),
        }
    }

    fn archived(
        &self,
        size: [usize; 2],
        range: Range<usize>,
        batch: usize,
        give: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        let mut npz = Npz::open(&self.path)?;
        let labels = npz::labels(&mut npz, self.count)?;
        let (mut array, _) = npz::pictures(&mut npz)?;
        let one = size[0] * size[1] * 3;
        array.skip((range.start * one) as u64)?;
        for first in range.clone().step_by(batch) {
            let count = batch.min(range.end - first);
            let bytes = array.read(count * one)?;
            let labels = labels.as_ref().map(|l| l[first..first + count].to_vec());
            give(Batch { first, count, bytes, size, labels })?;
        }
        // Of a part that is not the last only its own bytes are seen.
        if range.end == self.count { array.finish() } else { Ok(()) }
    }

    /// Decodes a batch on all cores at a time.
    fn decoded(
        &self,
        dataset: &Dataset,
        side: Option<usize>,
        range: Range<usize>,
        batch: usize,
        give: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        let mut encoded = dataset.iter_from(range.start).take(range.len()).peekable();
        let mut first = range.start;
        let mut size_of_all = match (side, first) {
            (_, 0) => None,
            (Some(side), _) => Some([side, side]),
            // That of the pictures before, which another process reads.
            (None, _) => Some(self.first_size()?),
        };
        while encoded.peek().is_some() {
            let some: Vec<Encoded> = encoded.by_ref().take(batch).collect::<Result<_>>()?;
            let pictures: Vec<Rgb> = some.par_iter().map(|e| self.decode(e, side)).collect::<Result<_>>()?;
            let size = *size_of_all.get_or_insert([pictures[0].height, pictures[0].width]);
            if let Some((odd, e)) = pictures.iter().zip(&some).find(|(p, _)| [p.height, p.width] != size) {
                bad_input!(
                    "{}: {} × {} pixels, those before it {} × {}; --image-size crops the reference to one size",
                    self.place(e),
                    odd.width,
                    odd.height,
                    size[1],
                    size[0]
                )
            }
            let count = pictures.len();
            let bytes = pictures.into_iter().flat_map(|p| p.pixels).collect();
            let labels = some.iter().map(|e| e.picture.label).collect();
            give(Batch { first, count, bytes, size, labels })?;
            first += count;
        }
        Ok(())
    }

    fn decode(&self, encoded: &Encoded, side: Option<usize>) -> Result<Rgb> {
        let picture = encoded.decode().bad_input(|| format!("decoding {}", self.place(encoded)))?;
        Ok(side.map_or_else(|| picture.clone(), |side| center_crop(&picture, side)))
    }

    fn place(&self, encoded: &Encoded) -> String {
        match self.path.is_dir() {
            true => self.path.join(&encoded.place).display().to_string(),
            false => encoded.place.clone(),
        }
    }
}

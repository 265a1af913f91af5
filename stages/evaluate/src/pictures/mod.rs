//! Where pictures come from: an archive, a folder of files, a dataset; all streamed.

pub mod dataset;

use anyhow::Result;
use dataset::Dataset;
use npz::Npz;
use rayon::prelude::*;
use shards::pictures::{Rgb, center_crop, decode};
use stage::{BadInputExt, bad_input};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Pictures in order.
pub struct Pictures {
    source: Source,
    path: PathBuf,
    count: usize,
}

enum Source {
    Archive { size: [usize; 2] },
    Files(Vec<PathBuf>),
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
    /// Finds the pictures of a `.npz`, of a Parquet file, of a folder with `samples.npz` (as `sample` writes it), of a folder
    /// with Parquet files, or of a folder of PNG, JPEG and WebP files, in the order of their names.
    ///
    /// # Errors
    /// Bad input when there are none.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_file() && is_parquet(path)? {
            let dataset = Dataset::open(path)?;
            let count = dataset.count();
            return Self { source: Source::Dataset(dataset), path: path.into(), count }.checked();
        }
        let archive = if path.is_dir() { path.join("samples.npz") } else { path.to_path_buf() };
        if archive.is_file() {
            let [count, height, width] = npz::picture_shape(&mut Npz::open(&archive)?)?;
            return Self { source: Source::Archive { size: [height, width] }, path: archive, count }
                .checked();
        }
        let files = files_of(path)?;
        if !files.is_empty() {
            let count = files.len();
            return Self { source: Source::Files(files), path: path.into(), count }.checked();
        }
        let dataset = Dataset::open(path)?;
        let count = dataset.count();
        Self { source: Source::Dataset(dataset), path: path.into(), count }.checked()
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
        matches!(self.source, Source::Archive { .. })
    }

    /// Height and width, by the first picture.
    ///
    /// # Errors
    /// Bad input when it cannot be decoded.
    pub fn first_size(&self) -> Result<[usize; 2]> {
        if let Source::Archive { size } = &self.source {
            return Ok(*size);
        }
        match self.encoded().next() {
            Some(first) => first?.decoded(None).map(|p| [p.height, p.width]),
            None => bad_input!("{}: no pictures", self.path.display()),
        }
    }

    /// Gives all pictures in batches, cropped to squares of `side` where it is given and they are no archive.
    ///
    /// # Errors
    /// Bad input that names the first picture that cannot be decoded or has another size than those before it; or the
    /// callback's.
    pub fn batches(
        &self,
        side: Option<usize>,
        batch: usize,
        give: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        match self.source {
            Source::Archive { size } => self.archived(size, batch, give),
            Source::Files(_) | Source::Dataset(_) => self.decoded(side, batch, give),
        }
    }

    fn archived(
        &self,
        size: [usize; 2],
        batch: usize,
        give: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        let mut npz = Npz::open(&self.path)?;
        let labels = npz::labels(&mut npz, self.count)?;
        let (mut array, _) = npz::pictures(&mut npz)?;
        for first in (0..self.count).step_by(batch) {
            let count = batch.min(self.count - first);
            let bytes = array.read(count * size[0] * size[1] * 3)?;
            let labels = labels.as_ref().map(|l| l[first..first + count].to_vec());
            give(Batch { first, count, bytes, size, labels })?;
        }
        array.finish()
    }

    /// Decodes a batch on all cores at a time.
    fn decoded(
        &self,
        side: Option<usize>,
        batch: usize,
        give: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        let mut encoded = self.encoded().peekable();
        let mut first = 0;
        let mut size_of_all = None;
        while encoded.peek().is_some() {
            let some: Vec<Encoded> = encoded.by_ref().take(batch).collect::<Result<_>>()?;
            let pictures: Vec<Rgb> = some.par_iter().map(|e| e.decoded(side)).collect::<Result<_>>()?;
            let size = *size_of_all.get_or_insert([pictures[0].height, pictures[0].width]);
            if let Some((odd, e)) = pictures.iter().zip(&some).find(|(p, _)| [p.height, p.width] != size) {
                bad_input!(
                    "{}: {} × {} pixels, those before it {} × {}; --image-size crops the reference to one size",
                    e.place,
                    odd.width,
                    odd.height,
                    size[1],
                    size[0]
                )
            }
            let count = pictures.len();
            let bytes = pictures.into_iter().flat_map(|p| p.pixels).collect();
            let labels = some.iter().map(|e| e.label).collect();
            give(Batch { first, count, bytes, size, labels })?;
            first += count;
        }
        Ok(())
    }

    fn encoded(&self) -> Box<dyn Iterator<Item = Result<Encoded>> + '_> {
        match &self.source {
            Source::Archive { .. } => Box::new(std::iter::empty()),
            Source::Files(files) => Box::new(files.iter().map(|path| {
                let place = path.display().to_string();
                let bytes = std::fs::read(path).bad_input(|| format!("reading {place}"))?;
                Ok(Encoded { place, bytes, label: None })
            })),
            Source::Dataset(dataset) => Box::new(dataset.iter().map(|picture| {
                let (place, picture) = picture?;
                Ok(Encoded { place, bytes: picture.bytes, label: picture.label })
            })),
        }
    }
}

struct Encoded {
    place: String,
    bytes: Vec<u8>,
    label: Option<i64>,
}

impl Encoded {
    fn decoded(&self, side: Option<usize>) -> Result<Rgb> {
        let picture = decode(&self.bytes).bad_input(|| format!("decoding {}", self.place))?;
        Ok(side.map_or_else(|| picture.clone(), |side| center_crop(&picture, side)))
    }
}

/// Whether a file begins as Parquet does.
pub(crate) fn is_parquet(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|f| f.take(4).read_to_end(&mut start));
    read.bad_input(|| format!("reading {}", path.display()))?;
    Ok(start == b"PAR1")
}

/// The picture files in a folder and the folders below it, sorted.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let context = || format!("listing {}", folder.display());
        for entry in std::fs::read_dir(&folder).bad_input(context)? {
            let path = entry.bad_input(context)?.path();
            let kind = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
            if path.is_dir() {
                folders.push(path);
            } else if matches!(kind.as_deref(), Some("png" | "jpg" | "jpeg" | "webp")) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

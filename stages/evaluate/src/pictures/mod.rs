//! Where pictures come from: an archive, a folder of files, a dataset; all streamed.

pub mod crop;
pub mod parquet;

use crate::npz::{self, Npz};
use anyhow::Result;
use crop::{Rgb, adm_crop};
use parquet::Dataset;
use stage::{BadInputExt, bad_input};
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
}

impl Pictures {
    /// Finds the pictures of a `.npz`, of a folder with `samples.npz` (as `sample` writes it), of a folder with Parquet
    /// files, or of a folder of PNG, JPEG and WebP files, in the order of their names.
    ///
    /// # Errors
    /// Bad input when there are none.
    pub fn open(path: &Path) -> Result<Self> {
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
        let count = dataset.len();
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
        match &self.source {
            Source::Archive { size } => Ok(*size),
            Source::Files(files) => read_file(&files[0]).map(|p| [p.height, p.width]),
            Source::Dataset(dataset) => dataset.first_size(),
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
        match &self.source {
            Source::Archive { size } => {
                let mut npz = Npz::open(&self.path)?;
                let (mut array, _) = npz::pictures(&mut npz)?;
                for first in (0..self.count).step_by(batch) {
                    let count = batch.min(self.count - first);
                    let bytes = array.read(count * size[0] * size[1] * 3)?;
                    give(Batch { first, count, bytes, size: *size })?;
                }
                Ok(())
            }
            Source::Files(files) => {
                let mut collected = Collector { batch, first: 0, open: None, give };
                for path in files {
                    collected.add(&path.display().to_string(), cropped(read_file(path)?, side))?;
                }
                collected.finish()
            }
            Source::Dataset(dataset) => {
                let mut collected = Collector { batch, first: 0, open: None, give };
                dataset.for_each(&mut |place, picture, _| collected.add(place, cropped(picture, side)))?;
                collected.finish()
            }
        }
    }
}

fn cropped(picture: Rgb, side: Option<usize>) -> Rgb {
    match side {
        Some(side) => adm_crop(picture, side),
        None => picture,
    }
}

/// Puts single pictures together.
struct Collector<'a> {
    batch: usize,
    first: usize,
    open: Option<Batch>,
    give: &'a mut dyn FnMut(Batch) -> Result<()>,
}

impl Collector<'_> {
    fn add(&mut self, place: &str, picture: Rgb) -> Result<()> {
        let size = [picture.height, picture.width];
        let first = self.first;
        let open = self.open.get_or_insert_with(|| Batch { first, count: 0, bytes: Vec::new(), size });
        if open.size != size {
            let [h, w] = open.size;
            bad_input!(
                "{place}: {} × {} pixels, those before it {w} × {h}; --image-size crops all to one size",
                size[1],
                size[0]
            )
        }
        open.bytes.extend(picture.bytes);
        open.count += 1;
        if open.count == self.batch {
            return self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let Some(full) = self.open.take() else { return Ok(()) };
        let size = full.size;
        self.first += full.count;
        (self.give)(full)?;
        // The size of all is the size of the first.
        self.open = Some(Batch { first: self.first, count: 0, bytes: Vec::new(), size });
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        match self.open.take() {
            Some(rest) if rest.count > 0 => (self.give)(rest),
            _ => Ok(()),
        }
    }
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

fn read_file(path: &Path) -> Result<Rgb> {
    let context = || format!("reading {}", path.display());
    decode(&std::fs::read(path).bad_input(context)?).bad_input(context)
}

/// Decodes PNG, JPEG or WebP to RGB; alpha is dropped.
pub(crate) fn decode(bytes: &[u8]) -> Result<Rgb> {
    let picture = image::load_from_memory(bytes)?.to_rgb8();
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    Ok(Rgb { bytes: picture.into_raw(), height, width })
}

//! The pictures of a run: kept batch by batch while it lasts, published together.

use crate::outputs::{SAMPLES, picture};
use anyhow::{Context, Result, ensure};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use rayon::prelude::*;
use serde_json::Value as Json;
use stage::{Staged, write_atomically};
use std::fs;
use std::path::{Path, PathBuf};

/// What a state folder was made for.
const WHAT: &str = "sampling.json";

/// Pictures done so far.
pub struct SampledPictures {
    folder: PathBuf,
    side: usize,
    /// Number of the first picture.
    start: usize,
    /// First picture and number of pictures of each part.
    parts: Vec<(usize, usize)>,
}

impl SampledPictures {
    /// Goes on with what `folder` holds, if it was made for the same `what`; else begins anew with picture `start`.
    ///
    /// # Errors
    /// When the folder cannot be read or cleared.
    pub fn resume(folder: &Path, what: &Json, side: usize, start: usize) -> Result<Self> {
        let mark = folder.join(WHAT);
        let same = fs::read(&mark).ok().and_then(|text| serde_json::from_slice::<Json>(&text).ok());
        let mut pictures = Self { folder: folder.into(), side, start, parts: Vec::new() };
        if same.as_ref() == Some(what) {
            while let Some(count) = pictures.part_at(pictures.done())? {
                pictures.parts.push((pictures.done(), count));
            }
            return Ok(pictures);
        }
        for name in ["parts", "images"] {
            let old = folder.join(name);
            if old.exists() {
                fs::remove_dir_all(&old).with_context(|| format!("removing {}", old.display()))?;
            }
            fs::create_dir_all(&old).with_context(|| format!("making {}", old.display()))?;
        }
        stage::write_json(&mark, what)?;
        Ok(pictures)
    }

    /// Number of the next picture.
    pub fn done(&self) -> usize {
        self.parts.last().map_or(self.start, |(first, count)| first + count)
    }

    fn bytes(&self) -> usize {
        self.side * self.side * 3
    }

    fn part(&self, first: usize) -> PathBuf {
        self.folder.join(format!("parts/{first:08}.rgb"))
    }

    fn part_at(&self, first: usize) -> Result<Option<usize>> {
        let path = self.part(first);
        let Ok(meta) = fs::metadata(&path) else { return Ok(None) };
        let count = meta.len() as usize / self.bytes();
        ensure!(count > 0 && meta.len() as usize == count * self.bytes(), "{} is cut short", path.display());
        Ok(Some(count))
    }

    /// Adds the next pictures.
    ///
    /// # Shapes
    /// `bytes` `[count, side, side, 3]`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn add(&mut self, bytes: &[u8], count: usize) -> Result<()> {
        ensure!(bytes.len() == count * self.bytes(), "{count} pictures have {} bytes", bytes.len());
        let (first, side) = (self.done(), self.side as u32);
        bytes.par_chunks(self.bytes()).enumerate().try_for_each(|(i, pixels)| -> Result<()> {
            let path = self.folder.join("images").join(picture(first + i));
            let context = || format!("writing {}", path.display());
            let mut png = Vec::new();
            PngEncoder::new(&mut png)
                .write_image(pixels, side, side, ExtendedColorType::Rgb8)
                .with_context(context)?;
            fs::write(&path, png).with_context(context)
        })?;
        // Last, because a part says that its pictures are there.
        write_atomically(&self.part(first), |out| Ok(out.write_all(bytes)?))?;
        self.parts.push((first, count));
        Ok(())
    }

    /// Puts all pictures and `samples.npz`, with the names of the classes, into `folder`, atomically.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn publish(&self, folder: &Path, labels: &[i64], class_names: &[String]) -> Result<()> {
        let staged = Staged::folder(folder, &SAMPLES)?;
        let images = staged.path().join("images");
        fs::create_dir(&images).with_context(|| format!("making {}", images.display()))?;
        for image in self.start..self.done() {
            let (from, to) = (self.folder.join("images").join(picture(image)), images.join(picture(image)));
            stage::sharding::link(&from, &to)?;
        }
        let mut npz = npz::Writer::create(&staged.path().join("samples.npz"))?;
        npz.start("arr_0", "|u1", &[self.done() - self.start, self.side, self.side, 3])?;
        for (first, _) in &self.parts {
            let path = self.part(*first);
            npz.values(&fs::read(&path).with_context(|| format!("reading {}", path.display()))?)?;
        }
        npz.integers("arr_1", labels)?;
        npz::name_classes(&mut npz, class_names)?;
        npz.finish()?;
        staged.commit()
    }
}

//! The grid of samples: one row per class.

use crate::document::{Block, Figure, Section, grouped};
use crate::figure::raster;
use crate::figure::svg::{Anchor, Svg, WIDTH};
use anyhow::{Context, Result};
use image::{RgbImage, RgbaImage, imageops};
use npz::Npz;
use stage::bad_input;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Side of a sample in the grid at most; larger ones are reduced.
const SIDE: u32 = 96;
/// Up to this side the pixels of a sample are kept apart where it is enlarged.
pub const PIXELS: u32 = 64;
/// Characters of a row's name at most, and the width of one in the figure.
const NAME: usize = 20;
const CHARACTER: f64 = 6.0;
/// Pixels between samples.
const GAP: u32 = 2;

/// Samples, chosen and sorted into rows.
pub struct Grid {
    /// Name of each row, and its images.
    pub rows: Vec<(String, Vec<RgbImage>)>,
    total: usize,
    classes: usize,
}

/// Which samples are shown: the name of each row, and the places of its samples in the file.
pub type Chosen = Vec<(String, Vec<usize>)>;

/// Samples as they lie in a file.
pub struct Archive {
    file: PathBuf,
    npz: Npz,
    total: usize,
    labels: Option<Vec<i64>>,
    names: Vec<String>,
}

impl Archive {
    /// Opens the samples folder of `sample`, or an `.npz`.
    ///
    /// # Errors
    /// Bad input when there are no samples or they cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let file = if path.is_dir() { path.join("samples.npz") } else { path.to_path_buf() };
        let mut npz = Npz::open(&file)?;
        let [total, ..] = npz::picture_shape(&mut npz)?;
        let labels = npz::labels(&mut npz, total)?;
        let names = npz::class_names(&mut npz)?;
        if total == 0 {
            bad_input!("{}: there are no samples in it", file.display())
        }
        Ok(Self { file, npz, total, labels, names })
    }

    fn label(&self, sample: usize) -> i64 {
        self.labels.as_ref().map_or(0, |labels| labels[sample])
    }

    fn by_class(&self) -> BTreeMap<i64, Vec<usize>> {
        let mut by_class: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        (0..self.total).for_each(|i| by_class.entry(self.label(i)).or_default().push(i));
        by_class
    }

    /// The first `columns` of each class, of at most `rows` classes evenly spread.
    pub fn choose(&self, rows: usize, columns: usize) -> Chosen {
        let by_class = self.by_class();
        let classes = by_class.len();
        if classes == 1 {
            let all = by_class.into_values().flatten().take(rows.min(8) * columns).collect::<Vec<_>>();
            return all.chunks(columns).map(|row| (String::new(), row.to_vec())).collect();
        }
        let shown = rows.min(classes);
        let spread = |i: usize| if shown == 1 { 0 } else { i * (classes - 1) / (shown - 1) };
        let all: Vec<_> = by_class.into_iter().collect();
        let row = |(label, images): &(i64, Vec<usize>)| {
            (name(*label, &self.names), images.iter().copied().take(columns).collect())
        };
        (0..shown).map(|i| row(&all[spread(i)])).collect()
    }

    /// Checks that the chosen samples are of the same classes here as in another file.
    ///
    /// # Errors
    /// Bad input that names the first that is not.
    pub fn agrees(&self, other: &Self, chosen: &Chosen) -> Result<()> {
        const WAY: &str = "sample all variants with the same --images, --labels and --seed";
        for sample in chosen.iter().flat_map(|row| row.1.iter().copied()) {
            let (file, there) = (self.file.display(), other.file.display());
            if sample >= self.total {
                bad_input!(
                    "{file}: there are {} samples in it, and sample {sample} of {there} has none to stand beside it; {WAY}",
                    self.total
                )
            }
            let (a, b) = (self.label(sample), other.label(sample));
            if a != b {
                bad_input!("{file}: sample {sample} is of class {a}, that of {there} of class {b}; {WAY}")
            }
        }
        Ok(())
    }

    /// Reads the chosen samples.
    ///
    /// # Errors
    /// Bad input when they cannot be read.
    pub fn grid(&mut self, chosen: &Chosen) -> Result<Grid> {
        let mut wanted: Vec<usize> = chosen.iter().flat_map(|r| r.1.iter().copied()).collect();
        wanted.sort_unstable();
        let images = chosen_images(&mut self.npz, &wanted)?;
        let mut images: BTreeMap<usize, RgbImage> = wanted.into_iter().zip(images).collect();
        let rows = chosen.iter().map(|(label, row)| {
            (label.clone(), row.iter().filter_map(|i| images.remove(i)).map(reduce).collect())
        });
        Ok(Grid { rows: rows.collect(), total: self.total, classes: self.by_class().len() })
    }
}

impl Grid {
    /// Reads the samples of a folder or an `.npz`: the first `columns` of each class, of at most `rows` classes.
    ///
    /// # Errors
    /// Bad input when there are no samples or they cannot be read.
    pub fn read(path: &Path, rows: usize, columns: usize) -> Result<Self> {
        let mut archive = Archive::open(path)?;
        let chosen = archive.choose(rows, columns);
        archive.grid(&chosen)
    }

    /// All rows in one picture, transparent between the samples.
    pub fn picture(&self) -> RgbaImage {
        let (width, height) = self.cell();
        let columns = self.columns() as u32;
        let mut picture = RgbaImage::new(
            (columns * (width + GAP)).saturating_sub(GAP),
            (self.rows.len() as u32 * (height + GAP)).saturating_sub(GAP),
        );
        for (y, (_, row)) in self.rows.iter().enumerate() {
            for (x, sample) in row.iter().enumerate() {
                let rgba = image::DynamicImage::from(sample.clone()).to_rgba8();
                let (x, y) = (x as i64 * i64::from(width + GAP), y as i64 * i64::from(height + GAP));
                imageops::replace(&mut picture, &rgba, x, y);
            }
        }
        picture
    }

    /// Width and height of a sample.
    pub fn cell(&self) -> (u32, u32) {
        self.rows.iter().flat_map(|r| &r.1).next().map_or((1, 1), RgbImage::dimensions)
    }

    /// Samples of the longest row.
    pub fn columns(&self) -> usize {
        self.rows.iter().map(|r| r.1.len()).max().unwrap_or(0)
    }

    /// Whether rows are classes.
    pub fn labelled(&self) -> bool {
        self.classes > 1
    }

    /// The section, and the grid as a PNG.
    ///
    /// # Errors
    /// When the picture cannot be encoded.
    pub fn section(&self) -> Result<(Section, Vec<u8>)> {
        let mut section = Section::new("Samples");
        let png = raster::png(&self.picture())?;
        let labelled = self.labelled();
        let longest = self.rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        let left = if labelled { 12.0 + (CHARACTER * longest as f64).max(18.0) } else { 0.0 };
        let (cell_width, cell_height) = self.cell();
        let columns = self.columns();
        // Few samples stay small: a cell is never wider than a tenth of the figure.
        let cell = ((WIDTH - left) / columns as f64).min((WIDTH - 30.0) / 8.0);
        let (width, row) = (cell * columns as f64, cell * f64::from(cell_height) / f64::from(cell_width));
        let height = row * self.rows.len() as f64;
        let mut svg = Svg::default();
        for (i, (label, _)) in self.rows.iter().enumerate() {
            svg.text("soft", (left - 8.0, row * (i as f64 + 0.5) + 3.5), Anchor::End, label);
        }
        svg.image(cell_width <= PIXELS, &png, left, 0.0, width, height);
        let what = match (labelled, self.rows.len() == self.classes) {
            (true, true) => {
                format!("One row per class: the first {columns} samples asked for that label, unselected.")
            }
            (true, false) => format!(
                "One row per class, {} of {} classes evenly spread: the first {columns} samples asked for that label, unselected.",
                self.rows.len(),
                grouped(self.classes as i64)
            ),
            (false, _) => "The first samples, unselected.".into(),
        };
        section.blocks.push(Block::Figure(Figure {
            name: "samples".into(),
            alt: "Grid of samples, one row per class".into(),
            caption: format!("{what} {} samples in all. Source: `samples.npz`.", grouped(self.total as i64)),
            svg: svg.finish(height),
        }));
        Ok((section, png))
    }
}

/// The images at `wanted`, which rises, without holding the others.
fn chosen_images(archive: &mut Npz, wanted: &[usize]) -> Result<Vec<RgbImage>> {
    let (mut array, [_, height, width]) = npz::pictures(archive)?;
    let bytes = height * width * 3;
    let mut found = Vec::new();
    let mut at = 0;
    for &index in wanted {
        array.skip(((index - at) * bytes) as u64)?;
        let pixels = array.read(bytes)?;
        found.push(RgbImage::from_raw(width as u32, height as u32, pixels).context("an image's pixels")?);
        at = index + 1;
    }
    Ok(found)
}

/// What a row is called: its class's name, cut where it is long, or its number.
fn name(label: i64, names: &[String]) -> String {
    match usize::try_from(label).ok().and_then(|label| names.get(label)) {
        Some(name) if name.chars().count() > NAME => name.chars().take(NAME - 1).chain(['…']).collect(),
        Some(name) => name.clone(),
        None => label.to_string(),
    }
}

fn reduce(sample: RgbImage) -> RgbImage {
    let (width, height) = sample.dimensions();
    let side = width.max(height);
    if side <= SIDE {
        return sample;
    }
    let scale = |n: u32| (n * SIDE / side).max(1);
    imageops::resize(&sample, scale(width), scale(height), imageops::FilterType::Triangle)
}

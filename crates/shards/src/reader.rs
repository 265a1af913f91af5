//! Opens a folder of latents; every byte is checked against its digest before it is used.

use crate::layout::{self, Map, OpenGroup};
use crate::manifest::{self, LatentsMetadata, Manifest, Shard};
use crate::residence::Residence;
use anyhow::{Context, Result, ensure};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use half::f16;
use half::slice::HalfFloatSliceExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rayon::prelude::*;
use stage::{BadInputExt, bad_input, read_json};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A folder of latents; clones share it.
#[derive(Clone)]
pub struct Latents {
    inner: Arc<Inner>,
}

struct Inner {
    manifest: Manifest,
    files: Vec<OpenShard>,
    /// The first row of each file.
    starts: Vec<usize>,
    labels: Vec<i64>,
}

struct OpenShard {
    path: PathBuf,
    data: Bytes,
    /// The same bytes where they are mapped from the disk; none once they are all in memory.
    map: Option<Map>,
    groups: Vec<OpenGroup>,
}

/// Where a row lies.
struct Place<'a> {
    file: usize,
    group: usize,
    open: &'a OpenShard,
    /// Its number in its row group.
    within: usize,
}

/// The moments of one picture, not scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentRow {
    /// Mean. `[C, H, W]`.
    pub mean: Vec<f32>,
    /// Standard deviation. `[C, H, W]`.
    pub std: Vec<f32>,
    /// Class.
    pub label: i64,
}

impl Latents {
    /// Opens a folder that `encode` wrote. Footers and labels are verified now, moments when they are first read.
    ///
    /// # Errors
    /// Bad input that names the file and the part of it that is missing, cut short or changed.
    pub fn open(folder: &Path) -> Result<Self> {
        let place = folder.join(manifest::FILE);
        let manifest: Manifest = read_json(&place)?;
        if manifest.version != manifest::VERSION {
            bad_input!(
                "{}: version {} of the layout, this program reads {}; encode again",
                place.display(),
                manifest.version,
                manifest::VERSION
            )
        }
        let about = &manifest.latents;
        let named = [0, about.classes].contains(&about.class_names.len());
        let sound =
            about.dtype == "float16" && about.classes > 0 && named && about.numel() > 0 && manifest.rows > 0;
        let sound = sound && about.space().fits(about.shape[0]);
        if !sound || manifest.rows != manifest.shards.iter().map(|s| s.rows).sum::<usize>() {
            bad_input!("{}: its numbers contradict each other; encode again", place.display())
        }
        let open: Vec<(OpenShard, Vec<i64>)> = manifest
            .shards
            .par_iter()
            .map(|shard| {
                let path = folder.join(&shard.path);
                open_shard(&path, shard, about).bad_input(|| format!("reading {}", path.display()))
            })
            .collect::<Result<_>>()?;
        let (mut files, mut starts, mut labels) = (Vec::new(), Vec::new(), Vec::with_capacity(manifest.rows));
        for (file, rows) in open {
            starts.push(labels.len());
            labels.extend(rows);
            files.push(file);
        }
        if let Some(row) = labels.iter().position(|&l| l < 0 || l as usize >= about.classes) {
            bad_input!(
                "{}: row {row} has label {}, there are {} classes",
                folder.display(),
                labels[row],
                about.classes
            )
        }
        Ok(Self { inner: Arc::new(Inner { manifest, files, starts, labels }) })
    }

    /// Takes all files into memory and verifies them on the way, unless `residence` leaves them on the disk; each of
    /// `processes` that share this machine has its own copy of [`Latents::bytes`].
    ///
    /// # Errors
    /// Bad input that names the first row group that differs, or a file that cannot be read.
    pub fn reside(self, residence: Residence, processes: usize) -> Result<Self> {
        if residence.resolve(self.bytes(), processes) == Residence::Disk {
            return Ok(self);
        }
        let Inner { manifest, files, starts, labels } =
            Arc::try_unwrap(self.inner).map_err(|_| anyhow::anyhow!("the latents are in use already"))?;
        let inside = files.into_par_iter().zip(&manifest.shards).map(|(open, shard)| open.into_memory(shard));
        let files = inside.collect::<Result<_>>()?;
        Ok(Self { inner: Arc::new(Inner { manifest, files, starts, labels }) })
    }

    /// Size of all files.
    pub fn bytes(&self) -> u64 {
        self.manifest().shards.iter().map(|shard| shard.bytes).sum()
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.inner.labels.len()
    }

    /// Never: an empty folder does not open.
    pub fn is_empty(&self) -> bool {
        self.inner.labels.is_empty()
    }

    /// `[C, H, W]` of one latent.
    pub fn shape(&self) -> [usize; 3] {
        self.about().shape
    }

    /// Number of classes; 1 where the pictures have no labels.
    pub fn classes(&self) -> usize {
        self.about().classes
    }

    /// What the rows hold.
    pub fn about(&self) -> &LatentsMetadata {
        &self.inner.manifest.latents
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// The class of every row.
    pub fn labels(&self) -> &[i64] {
        &self.inner.labels
    }

    /// The moments of a row, of the mirrored picture when `flipped`.
    ///
    /// # Errors
    /// Bad input that names the row group when its bytes are not those that were written.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, row: usize, flipped: bool) -> Result<LatentRow> {
        let mut scratch = vec![f16::ZERO; self.about().numel()];
        let mut moments = [vec![0.0; scratch.len()], vec![0.0; scratch.len()]];
        let [mean, std] = &mut moments;
        self.read(row, flipped, &mut scratch, mean, std)?;
        let [mean, std] = moments;
        Ok(LatentRow { mean, std, label: self.inner.labels[row] })
    }

    /// Compares every row group with its digest, where that has not been done yet.
    ///
    /// # Errors
    /// Bad input that names the first row group that differs.
    pub fn verify(&self) -> Result<()> {
        self.inner.files.par_iter().enumerate().try_for_each(|(file, open)| {
            let groups = (0..open.groups.len()).into_par_iter();
            let unseen = groups.filter(|&group| !open.groups[group].verified.load(Ordering::Acquire));
            unseen.try_for_each(|group| self.check(file, group))
        })
    }

    pub(crate) fn read(
        &self,
        row: usize,
        flipped: bool,
        scratch: &mut [f16],
        mean: &mut [f32],
        std: &mut [f32],
    ) -> Result<()> {
        let Place { file, group, open, within } = self.place(row);
        if !open.groups[group].verified.load(Ordering::Acquire) {
            self.check(file, group)?;
        }
        for (start, target) in self.moments(open, group, within, flipped).into_iter().zip([mean, std]) {
            let bytes = &open.data[start..start + self.about().width()];
            for (value, bytes) in scratch.iter_mut().zip(bytes.chunks_exact(2)) {
                *value = f16::from_le_bytes([bytes[0], bytes[1]]);
            }
            scratch.convert_to_f32_slice(target);
        }
        Ok(())
    }

    /// Has the disk fetch a row that will soon be read; all of its row group where that will be verified first.
    pub(crate) fn fetch(&self, row: usize, flipped: bool) {
        let Place { file, group, open, within } = self.place(row);
        let Some(map) = &open.map else { return };
        if open.groups[group].verified.load(Ordering::Acquire) {
            for start in self.moments(open, group, within, flipped) {
                map.fetch(start, self.about().width());
            }
        } else {
            let stated = &self.inner.manifest.shards[file].row_groups[group];
            map.fetch(stated.offset as usize, stated.bytes as usize);
        }
    }

    /// Whether all files are in memory.
    pub(crate) fn in_memory(&self) -> bool {
        self.inner.files.iter().all(|open| open.map.is_none())
    }

    fn place(&self, row: usize) -> Place<'_> {
        let file = self.inner.starts.partition_point(|&start| start <= row) - 1;
        let open = &self.inner.files[file];
        let within = row - self.inner.starts[file];
        let group = open.groups.partition_point(|g| g.first <= within) - 1;
        Place { file, group, open, within: within - open.groups[group].first }
    }

    /// Where mean and deviation of a row begin in its file.
    fn moments(&self, open: &OpenShard, group: usize, within: usize, flipped: bool) -> [usize; 2] {
        let first = if flipped && self.about().flipped { 2 } else { 0 };
        [first, first + 1].map(|column| open.groups[group].values[column] + within * self.about().width())
    }

    fn check(&self, file: usize, group: usize) -> Result<()> {
        let open = &self.inner.files[file];
        open.check(&self.inner.manifest.shards[file], group, &open.data)
    }
}

impl OpenShard {
    /// Reads the file, row group by row group, each verified while the processor still has it at hand.
    fn into_memory(self, shard: &Shard) -> Result<Self> {
        let reading = || format!("reading {}", self.path.display());
        let mut file = File::open(&self.path).bad_input(reading)?;
        let mut data = Vec::with_capacity(shard.bytes as usize);
        for (group, stated) in shard.row_groups.iter().enumerate() {
            (&mut file)
                .take(stated.offset + stated.bytes - data.len() as u64)
                .read_to_end(&mut data)
                .bad_input(reading)?;
            self.check(shard, group, &data)?;
        }
        (&mut file).take(shard.bytes - data.len() as u64).read_to_end(&mut data).bad_input(reading)?;
        Ok(Self { data: data.into(), map: None, ..self })
    }

    /// Compares a row group of `data` with its digest.
    fn check(&self, shard: &Shard, group: usize, data: &[u8]) -> Result<()> {
        let stated = &shard.row_groups[group];
        let bytes = data.get(stated.offset as usize..(stated.offset + stated.bytes) as usize);
        if bytes.is_none_or(|bytes| blake3::hash(bytes).to_hex().as_str() != stated.blake3) {
            bad_input!(
                "{}: row group {group} (of {}) is not what was written, its BLAKE3 differs from the manifest's; \
                 encode again",
                self.path.display(),
                shard.row_groups.len()
            )
        }
        self.groups[group].verified.store(true, Ordering::Release);
        Ok(())
    }
}

fn open_shard(path: &Path, shard: &Shard, about: &LatentsMetadata) -> Result<(OpenShard, Vec<i64>)> {
    let map = Map::new(path)?;
    let data = map.bytes();
    let size = data.len() as u64;
    ensure!(size == shard.bytes, "it has {size} bytes, the manifest says {}; encode again", shard.bytes);
    let mut end = 4;
    for group in &shard.row_groups {
        ensure!(group.offset == end, "the manifest's row groups do not follow each other");
        end += group.bytes;
    }
    let footer = &shard.footer;
    ensure!(
        footer.offset == end && end + footer.bytes == size,
        "the manifest's footer does not end the file"
    );
    ensure!(
        blake3::hash(&data[end as usize..]).to_hex().as_str() == footer.blake3 && data.starts_with(b"PAR1"),
        "its footer is not what was written, its BLAKE3 differs from the manifest's; encode again"
    );
    let reader = ParquetRecordBatchReaderBuilder::try_new(data.clone()).context("no Parquet file")?;
    ensure!(
        *reader.schema().as_ref().fields() == layout::schema(about).fields,
        "other columns than `encode` writes"
    );
    let groups = layout::groups(reader.metadata(), about, shard)?;
    let mask = ProjectionMask::columns(reader.parquet_schema(), ["label"]);
    let reader = reader.with_projection(mask).build().context("reading the labels")?;
    let mut labels = Vec::with_capacity(shard.rows);
    for batch in reader {
        let batch = batch.context("reading the labels")?;
        labels.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
    }
    ensure!(
        layout::digest_labels(&labels) == shard.labels,
        "its labels are not what was written, their BLAKE3 differs from the manifest's; encode again"
    );
    ensure!(labels.len() == shard.rows, "it has {} rows, the manifest says {}", labels.len(), shard.rows);
    Ok((OpenShard { path: path.into(), data, map: Some(map), groups }, labels))
}

//! The command line of `evaluate`.

use crate::features::file::is_features;
use crate::outputs::{STATE, is_converted, is_scores, is_statistics};
use ::pictures::Selection;
use extractors::inception::resize::Resize;
use metrics::Distances;
use stage::Known;
use std::path::{Path, PathBuf};
use torch::device::DeviceChoice;

/// `--scores`.
const SCORES: Known<Args> = Known::File(|_, path| Ok(is_scores(path)));
/// `--statistics`.
const STATISTICS: Known<Args> = Known::File(|_, path| Ok(is_statistics(path)));
/// `--features`.
const FEATURES: Known<Args> = Known::File(|_, path| Ok(is_features(path)));
/// `--convert`.
const CONVERTED: Known<Args> = Known::File(|_, path| Ok(is_converted(path)));

stage::arguments! {
    /// Score sampled pictures against reference pictures: FID, sFID, Inception Score, precision and recall, as ADM's
    /// evaluator computes them. Without `--samples` it only keeps the statistics or features of the reference.
    pub struct Args: "evaluate", state STATE {
        /// Pictures to score: a `.npz` with `arr_0` (uint8, `[N, H, W, 3]`) and perhaps `arr_1` (classes), a folder that
        /// `sample` wrote, a dataset as `download` reads it (pictures, or Parquet with a column of them) of one split; or the
        /// `--features` of an earlier run, a file or a folder of several that are one set together.
        input samples: Option<PathBuf>;
        /// Pictures to compare with: a dataset as `download` reads it or wrote it (Parquet with a column of pictures, or pictures,
        /// in a folder for each class or not), a `.npz` of pictures, a `.npz` with `mu`, `sigma`, `mu_s`, `sigma_s` (ADM's
        /// reference batches and `--statistics` of an earlier run), or `--features` of an earlier run.
        input reference: Option<PathBuf>;
        /// Weights of the FID Inception-v3, or of a narrow member of its family: ADM's `classify_image_graph_def.pb`,
        /// pytorch-fid's `.pth`, or safetensors under pytorch-fid's names.
        input inception: PathBuf;
        /// Weights of DINOv2's ViT-L/14 (or S, B) under their published names, `.pth` or safetensors, for FD-DINOv2: Pillow's
        /// bicubic resize to 224 × 224, the normalised class token, as dgm-eval computes it.
        input dinov2: Option<PathBuf>;
        /// Which split of the reference to take, where its files or folders are of splits.
        param split: String = "train".to_string();
        /// Which configuration of the reference to take, where its folders are of several.
        param config: Option<String>;
        /// The reference's column of pictures, where it is not clear.
        param image_column: Option<String>;
        /// The reference's column of labels, where it is not clear; for the FID of each class.
        param label_column: Option<String>;
        /// Side to which the reference pictures of a folder are cropped, as ADM does; the samples' size when not given.
        param image_size: Option<u64>, in 1..=4096, unit "pixels";
        /// Most pictures of a reference folder that precision and recall compare with, taken at equal distances from the
        /// whole; a `.npz` is always used whole.
        param reference_images: u64 = 10_000, in 4.., unit "images";
        /// How pictures come to 299 × 299.
        param resize: Resize = Resize::Adm;
        /// Arithmetic of the distances in precision and recall.
        param distances: Distances = Distances::Adm;
        /// Also FID∞, KID, density, coverage, the FID of 10,000 where there are more samples, and the FID of each class where
        /// samples and reference have classes.
        param more: bool = false;
        /// Pictures in one pass through the network.
        tuning batch_size: u64 = 64, in 1..=4096, unit "images";
        /// `auto`, `cpu` or `cuda:N`.
        judged_tuning device: DeviceChoice = DeviceChoice::Auto;
        /// CPU threads; 0 takes the cores there are.
        tuning threads: u64 = 0;
        /// JSON of the scores.
        output scores: Option<PathBuf>, known SCORES;
        /// Statistics of the reference as a `.npz`, for the next run and for ADM's own evaluator.
        output statistics: Option<PathBuf>, known STATISTICS;
        /// Features of the samples (without `--samples`, of the reference) as Parquet: a row for each picture, with lists
        /// `pool`, `spatial`, `logits` and perhaps `dinov2`, and `label`.
        output features: Option<PathBuf>, known FEATURES;
        /// The weights of `--inception` as safetensors.
        output convert: Option<PathBuf>, known CONVERTED;
    }
}

impl Args {
    /// What is asked of the reference, where it is a dataset.
    pub(crate) fn reference_selection(&self, path: &Path) -> Selection {
        Selection {
            source: format!("--reference {}", path.display()),
            split: Some(self.split.clone()),
            config: self.config.clone(),
            image_column: self.image_column.clone(),
            label_column: self.label_column.clone(),
            // Labels serve one score of many; those that were named must be there.
            insist: self.label_column.is_some(),
            flags: true,
            ..Selection::default()
        }
    }

    /// What is asked of the samples, where they are a dataset: that it is one.
    pub(crate) fn samples_selection(path: &Path) -> Selection {
        Selection { source: format!("--samples {}", path.display()), ..Selection::default() }
    }
}

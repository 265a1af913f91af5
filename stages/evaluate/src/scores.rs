//! What is written: numbers, each with what it was computed from.

use crate::network::{Dino, Network};
use extractors::inception::resize::Resize;
use metrics::Distances;
use serde::{Deserialize, Serialize};

/// `--scores`.
#[derive(Clone, Debug, Serialize)]
pub struct Scores {
    /// Fréchet distance of `pool_3`.
    pub fid: f64,
    /// Fréchet distance of the spatial features; absent where the reference has `mu` and `sigma` alone.
    pub sfid: Option<f64>,
    /// Mean over the splits; absent where ADM gives nan.
    pub inception_score: Option<f64>,
    /// Absent where the reference has no pictures.
    pub precision: Option<f64>,
    /// Absent where the reference has no pictures.
    pub recall: Option<f64>,
    /// Fréchet distance of DINOv2's class token; absent without its weights.
    pub fd_dinov2: Option<f64>,
    /// The further scores of `--more`.
    #[serde(flatten)]
    pub more: Option<More>,
    /// What was scored.
    pub samples: Side,
    /// What it was compared with.
    pub reference: Note,
    /// By which network.
    pub inception: Weights,
    /// The network behind FD-DINOv2.
    pub dinov2: Option<DinoWeights>,
    /// How pictures came to the size of `inception`.
    pub resize: Resize,
    /// Arithmetic of the distances in precision and recall.
    pub distances: Distances,
    /// Neighbours that make a radius.
    pub neighbours: i64,
    /// Pictures of one split of the Inception Score.
    pub split_size: i64,
    /// What a reader of the numbers should know.
    pub warnings: Vec<String>,
}

/// The scores that `--more` adds.
#[derive(Clone, Debug, Serialize)]
pub struct More {
    /// FID of 10,000 of the samples, at equal distances; absent where there are no more than that.
    pub fid_10k: Option<f64>,
    /// FID extrapolated to infinitely many samples; absent where there are fewer than 20.
    pub fid_infinity: Option<f64>,
    /// Standard error of the line's intercept.
    pub fid_infinity_error: Option<f64>,
    /// Numbers of samples behind the line.
    pub fid_infinity_sizes: Vec<i64>,
    /// FID of each of these numbers.
    pub fid_infinity_distances: Vec<f64>,
    /// Mean over the subsets; absent where the reference has no pictures, as all below.
    pub kid: Option<f64>,
    /// Population standard deviation over the subsets.
    pub kid_deviation: Option<f64>,
    /// How many subsets.
    pub kid_subsets: usize,
    /// Pictures of each set in a subset: 1,000, or all of the smaller set.
    pub kid_subset_size: usize,
    /// May exceed 1.
    pub density: Option<f64>,
    /// From 0 to 1.
    pub coverage: Option<f64>,
    /// Mean of the FIDs of the classes; absent where a side has no classes.
    pub fid_classes: Option<f64>,
    /// FID of the samples of a class and the reference's pictures of it, for each class that has two of both.
    pub classes: Vec<Class>,
}

/// One class.
#[derive(Clone, Debug, Serialize)]
pub struct Class {
    /// Its number.
    pub class: i64,
    /// Its name, where the samples say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Samples of it.
    pub samples: usize,
    /// Pictures of it among those of the reference whose features are kept.
    pub reference: usize,
    /// Of the two.
    pub fid: f64,
}

impl Scores {
    /// A line for each score, for people.
    pub fn table(&self) -> Vec<String> {
        let more = self.more.as_ref();
        let rows = [
            ("FID", Some(self.fid), "lower is better"),
            ("sFID", self.sfid, "lower"),
            ("Inception Score", self.inception_score, "higher"),
            ("Precision", self.precision, "higher"),
            ("Recall", self.recall, "higher"),
            ("FD-DINOv2", self.fd_dinov2, "lower"),
            ("FID of 10,000", more.and_then(|m| m.fid_10k), "lower"),
            ("FID∞", more.and_then(|m| m.fid_infinity), "lower"),
            ("FID by class", more.and_then(|m| m.fid_classes), "lower, mean of the classes"),
            ("KID", more.and_then(|m| m.kid), "lower"),
            ("Density", more.and_then(|m| m.density), "higher"),
            ("Coverage", more.and_then(|m| m.coverage), "higher"),
        ];
        rows.iter()
            .filter_map(|(name, value, better)| Some(format!("{name:<16} {:>12.4}  {better}", (*value)?)))
            .collect()
    }
}

/// Some pictures.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// How many.
    pub images: usize,
    /// Height and width; absent for features that do not say.
    pub size: Option<[usize; 2]>,
    /// SHA-256, where they are a single file.
    pub sha256: Option<String>,
}

/// Where statistics or features come from; kept as `provenance.json` in the statistics' file and in the footer of features.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// Pictures behind the statistics; absent where their file does not say.
    pub images: Option<usize>,
    /// Pictures that precision and recall compare with.
    pub precision_recall_images: usize,
    /// Height and width of those pictures, after cropping.
    pub size: Option<[usize; 2]>,
    /// SHA-256 of the weights; absent where the statistics' file does not say.
    pub inception: Option<String>,
    /// SHA-256 of DINOv2's weights, where its features were computed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dinov2: Option<String>,
    /// Pictures behind DINOv2's statistics, where they are not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dinov2_images: Option<usize>,
    /// Resize of the statistics; absent where their file does not say.
    pub resize: Option<Resize>,
    /// SHA-256 of the reference, where it is a single file.
    pub sha256: Option<String>,
}

impl Note {
    /// What the numbers of Inception depend on beside the pictures.
    pub(crate) fn made_with(&self) -> (Option<String>, Option<Resize>, Option<[usize; 2]>) {
        (self.inception.clone(), self.resize, self.size)
    }
}

/// The network behind FD-DINOv2.
#[derive(Clone, Debug, Serialize)]
pub struct DinoWeights {
    /// Of the weights file.
    pub sha256: String,
    /// Features; 1024 in ViT-L.
    pub width: i64,
    /// How pictures come to its size: Pillow's bicubic of 8-bit pictures to 224 × 224.
    pub resize: &'static str,
}

impl DinoWeights {
    pub(crate) fn of(dinov2: &Dino) -> Self {
        Self { sha256: dinov2.sha256.clone(), width: dinov2.network.width(), resize: "pillow-bicubic" }
    }
}

/// The network behind the numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Weights {
    /// Of the weights file.
    pub sha256: String,
    /// Features; 2048 in the full network.
    pub width: i64,
    /// Classes; 1008 in the full network.
    pub classes: i64,
}

impl Weights {
    pub(crate) fn of(network: &Network) -> Self {
        let (width, classes) = (network.inception.width(), network.inception.classes());
        Self { sha256: network.sha256.clone(), width, classes }
    }
}

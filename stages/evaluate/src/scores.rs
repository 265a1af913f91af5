//! What is written: numbers, each with what it was computed from.

use crate::Network;
use metrics::Distances;
use models::inception::resize::Resize;
use serde::{Deserialize, Serialize};

/// `--scores`.
#[derive(Clone, Debug, Serialize)]
pub struct Scores {
    /// Fréchet distance of `pool_3`.
    pub fid: f64,
    /// Fréchet distance of the spatial features.
    pub sfid: f64,
    /// Mean over the splits; absent where ADM gives nan.
    pub inception_score: Option<f64>,
    /// Absent where the reference has no pictures.
    pub precision: Option<f64>,
    /// Absent where the reference has no pictures.
    pub recall: Option<f64>,
    /// The further scores of `--more`.
    #[serde(flatten)]
    pub more: Option<More>,
    /// What was scored.
    pub samples: Side,
    /// What it was compared with.
    pub reference: Note,
    /// By which network.
    pub inception: Weights,
    /// How pictures came to its size.
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
}

impl Scores {
    /// A line for each score, for people.
    pub fn table(&self) -> Vec<String> {
        let more = self.more.as_ref();
        let rows = [
            ("FID", Some(self.fid), "lower is better"),
            ("sFID", Some(self.sfid), "lower"),
            ("Inception Score", self.inception_score, "higher"),
            ("Precision", self.precision, "higher"),
            ("Recall", self.recall, "higher"),
            ("FID of 10,000", more.and_then(|m| m.fid_10k), "lower"),
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// How many; absent for statistics from elsewhere, which do not say.
    pub images: Option<usize>,
    /// Height and width.
    pub size: [usize; 2],
}

/// Where reference statistics come from; kept as `provenance.json` in the statistics' file.
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
    /// Resize of the statistics; absent where their file does not say.
    pub resize: Option<Resize>,
    /// SHA-256 of the reference, where it is a single file.
    pub sha256: Option<String>,
}

/// The network behind the numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

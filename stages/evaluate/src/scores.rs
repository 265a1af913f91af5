//! What is written: numbers, each with what it was computed from.

use crate::Network;
use metrics::Distances;
use models::inception::resize::Resize;
use serde::{Deserialize, Serialize};

/// `--scores`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

//! One line of the log.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Means since the line before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Optimiser steps done.
    pub step: usize,
    /// `mse` (of the noise, before any weight), `vb` (variance term, bits per dimension), `prior` (before its weight; 0 without
    /// it), `loss` (what is minimised), and where they are used `weighted` (noise error), `load_balance` and `z`.
    #[serde(flatten)]
    pub means: BTreeMap<String, f64>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Speed.
    pub images_per_second: f64,
}

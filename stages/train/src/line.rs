//! One line of the log.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Means since the line before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Optimiser steps done.
    pub step: usize,
    /// `mse` (of what is predicted, before any weight), `vb` (variance term, bits per dimension), `prior` (before its weight; 0 without
    /// it), `loss` (what is minimised), and where they are used `weighted` (noise error), `load_balance` and `z`. Not means are the
    /// shares of the gating map's cells, every `--gating-every` steps where gates learn to choose: `prior_agreement`, those that
    /// agree with the matched prior, and `map_agreement`, those that are as at the look before; with `ema_` those of the first
    /// average's map.
    #[serde(flatten)]
    pub means: BTreeMap<String, f64>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Speed.
    pub images_per_second: f64,
}

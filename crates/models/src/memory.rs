//! What memory a training takes, counted without making it: what lasts, and what is there at the end of a step's evaluation.

use crate::config::{Architecture, Config};
use crate::mlp::RATIO;
use crate::summary::Summary;

/// Bytes of an f32.
const FULL: i64 = 4;

/// How a training is done, as far as memory depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Images that are evaluated at once: of a process, and of a part of its batch.
    pub images: i64,
    /// Moving averages.
    pub averages: i64,
    /// Bytes of a number that products give and take.
    pub product: i64,
}

/// Bytes by part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The network.
    pub weights: i64,
    /// Gradients, AdamW's two moments, and the moving averages.
    pub state: i64,
    /// Products' copies of the weights in another precision.
    pub copies: i64,
    /// What the evaluation of a batch leaves for its gradients, and what these take on the way.
    pub activations: i64,
    /// The experts of each image, added up to one matrix in each block.
    pub merged: i64,
}

impl Memory {
    /// Counts.
    pub fn new(config: &Config, training: &Training) -> Self {
        let summary = Summary::new(config);
        let (stored, trained) = (summary.stored(), summary.stored() - summary.frozen);
        let Training { images, averages, product } = *training;
        let token = images * config.tokens() * config.width;
        let matrix = config.width * config.width;
        let matrices = if config.routed() { images * matrix * product } else { 0 };
        Self {
            weights: stored * FULL,
            state: (3 + averages) * trained * FULL,
            copies: if product < FULL { trained * product } else { 0 },
            activations: token * (config.blocks * kept(config, product) + passing(product)),
            // Their gradient, too, of one block at a time, beside what becomes of it.
            merged: matrices * (config.blocks + 2),
        }
    }

    /// All of it.
    pub fn total(&self) -> i64 {
        self.weights + self.state + self.copies + self.activations + self.merged
    }
}

/// Bytes that a block keeps of each number of its tokens until its gradients are known.
fn kept(config: &Config, product: i64) -> i64 {
    // The input, and what the first branch makes of it.
    let full = 2 * FULL;
    // Both branches' modulated inputs, queries, keys and values, the attention and its projection, the hidden layer before and
    // after GELU, and the layer behind it.
    let products = (2 + 3 + 1 + 1 + 2 * RATIO + 1) * product;
    // The experts' mixture; a product in another precision takes a copy of its input.
    let mixture = match config.architecture {
        Architecture::SwitchDit if product < FULL => 2 * product,
        Architecture::SwitchDit => product,
        _ => 0,
    };
    full + products + mixture
}

/// Bytes for each number of the tokens while the gradients of one block are computed.
fn passing(product: i64) -> i64 {
    3 * FULL + 2 * RATIO * product
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let row = |f: &mut std::fmt::Formatter<'_>, name: &str, bytes: i64| {
            writeln!(f, "  {name:<38} {:>9.2} GiB", bytes as f64 / f64::from(1 << 30))
        };
        row(f, "weights", self.weights)?;
        row(f, "gradients, moments and averages", self.state)?;
        if self.copies > 0 {
            row(f, "weights in the products' precision", self.copies)?;
        }
        row(f, "activations", self.activations)?;
        if self.merged > 0 {
            row(f, "merged experts", self.merged)?;
        }
        write!(f, "  {:<38} {:>9.2} GiB", "all", self.total() as f64 / f64::from(1 << 30))
    }
}

//! Labels as vectors.

use crate::config::Config;
use crate::parameters::{Builder, Init};
use anyhow::Result;
use tch::Tensor;

/// The table's name.
pub const LABEL_TABLE: &str = "y_embedder.embedding_table.weight";
/// Standard deviation of a fresh one.
const DEVIATION: f64 = 0.02;

/// A fresh network's table.
///
/// # Shapes
/// `[classes and the null label, D]`.
pub fn fresh_table(config: &Config, seed: u64) -> Tensor {
    Init::Normal(DEVIATION).draw(seed, LABEL_TABLE, &[config.label_rows(), config.width])
}

/// A table with one row per class and, for conditional networks, one for "no label".
pub struct LabelEmbedding {
    table: Tensor,
}

impl LabelEmbedding {
    /// `y_embedder.embedding_table`.
    pub fn new(builder: &mut Builder, config: &Config) -> Result<Self> {
        let shape = [config.label_rows(), config.width];
        Ok(Self { table: builder.parameter(LABEL_TABLE, &shape, Init::Normal(DEVIATION))? })
    }

    /// # Shapes
    /// `labels` `[B]` i64 to `[B, D]`.
    pub fn forward(&self, labels: &Tensor) -> Tensor {
        Tensor::embedding(&self.table, labels, -1, false, false)
    }
}

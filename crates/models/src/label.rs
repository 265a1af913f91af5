//! Labels as vectors.

use crate::config::Config;
use crate::parameters::{Builder, Init};
use anyhow::Result;
use tch::Tensor;

/// A table with one row per class and, for conditional networks, one for "no label".
pub struct LabelEmbedding {
    table: Tensor,
}

impl LabelEmbedding {
    /// `y_embedder.embedding_table`.
    pub fn new(builder: &mut Builder, config: &Config) -> Result<Self> {
        let shape = [config.label_rows(), config.width];
        Ok(Self {
            table: builder.parameter("y_embedder.embedding_table.weight", &shape, Init::Normal(0.02))?,
        })
    }

    /// # Shapes
    /// `labels` `[B]` i64 to `[B, D]`.
    pub fn forward(&self, labels: &Tensor) -> Tensor {
        Tensor::embedding(&self.table, labels, -1, false, false)
    }
}

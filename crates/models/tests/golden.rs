//! Tensors and numbers recorded from the reference; another folder of the same layout is named by `GOLDEN_DIR`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod golden {
    pub mod analysis;
    pub mod chains;
    pub mod counts;
    pub mod diffusion;
    pub mod embeddings;
    pub mod networks;
    pub mod priors;
    pub mod support;
}

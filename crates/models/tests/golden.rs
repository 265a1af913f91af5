//! Tensors and numbers recorded from the reference; another folder of the same layout is named by `GOLDEN_DIR`.

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

//! Networks and diffusion: Switch-DiT and the systems it is compared with, the VAE, Inception.
//!
//! Legend of every `# Shapes` section: `B` batch, `N` tokens, `D` width, `E` experts, `K` kept experts, `T` timesteps,
//! `L` blocks.

pub mod random;
pub mod vae;
pub mod weights;

pub use weights::Weights;

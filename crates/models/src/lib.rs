//! Networks and diffusion: Switch-DiT and the systems it is compared with, the VAE, Inception.
//!
//! Legend of every `# Shapes` section: `B` batch, `N` tokens, `D` width, `E` experts, `K` kept experts, `T` timesteps,
//! `L` blocks.

pub mod config;
pub mod network;
pub mod summary;

mod attention;
mod block;
mod final_layer;
mod label;
mod linear;
mod mlp;
mod modulation;
mod parameters;
pub mod patch;
mod router;
pub mod timestep;

pub mod assignment;
pub mod prior;
pub mod relations;

pub mod analysis;

pub mod diffusion;

pub mod archive;
pub mod checkpoint;
pub mod device;
pub mod dinov2;
pub mod flat;
pub mod graphs;
pub mod inception;
pub mod interchange;
pub mod parallel;
pub mod pickle;
pub mod precision;
pub mod random;
pub mod shim;
pub mod transfer;
pub mod vae;
pub mod weights;

pub use config::Config;
pub use network::{Network, Timesteps};
pub use parameters::Parameter;
pub use precision::Precision;
pub use router::{ExpertsBy, Gates};
pub use weights::Weights;

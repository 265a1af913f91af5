//! Networks and diffusion: Switch-DiT and the systems it is compared with, and their checkpoints.
//!
//! Legend of every `# Shapes` section: `B` batch, `N` tokens, `D` width, `E` experts, `K` kept experts, `T` timesteps,
//! `L` blocks.

pub mod config;
pub mod memory;
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

pub mod checkpoint;
pub mod interchange;

pub use config::Config;
pub use network::{Guidance, GuidedChannels, Network, Timesteps};
pub use router::Gates;

//! Latents as `encode` writes them, in Parquet with a manifest of digests, and the loader that feeds them to training.
//!
//! Legend: `B` batch, `C`, `H`, `W` the channels and sides of a latent.

mod layout;
mod loader;
mod manifest;
mod reader;
mod residence;
mod writer;

pub use loader::{Batch, Loader};
pub use manifest::{LatentsMetadata, Manifest, RowGroup, Section, Shard};
pub use reader::{LatentRow, Latents};
pub use residence::Residence;
pub use writer::{Rows, ShardWriter, write_manifest};

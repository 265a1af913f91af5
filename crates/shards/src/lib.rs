//! The two kinds of data that stages hand each other: pictures as `download` lays them out, latents as `encode`
//! writes them, both in Parquet with a manifest of digests, and the loader that feeds latents to training.
//!
//! Legend: `B` batch, `C`, `H`, `W` the channels and sides of a latent.

pub mod pictures;

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

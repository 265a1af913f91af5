//! Results as one file: a tar, compressed by zstd, that holds contents, results and where they came from.
//!
//! ```text
//! about.json          version, study, run
//! provenance.json     every result in clear: action, outputs, when, how long
//! pipeline.lock       digests of all outputs, as `run --locked` reads them
//! run                 the record of the run, where one was exported
//! results/KEY         records with their checksums
//! trees/3f…           manifests of folders
//! blobs/3f…           file contents; `.x` when they may be executed
//! ```
//!
//! Entries stand in this order of folders by name, without times and owners, so that equal results make equal files.

mod layout;
mod read;
pub mod refusal;
mod write;

pub use layout::{About, Contents, VERSION};
pub use read::read;
pub use write::{pack_for_fuzz, write};

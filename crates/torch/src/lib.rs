//! Our layer over libtorch: what it can do and tch does not offer, and how the stages use a device.
//!
//! Legend of every `# Shapes` section: `B` batch, `N` tokens, `D` width, `E` experts.

pub mod device;
pub mod distance;
pub mod flat;
pub mod graphs;
pub mod parallel;
pub mod precision;
pub mod random;
pub mod shim;
pub mod transfer;

mod libraries;
mod parameter;

pub use parameter::Parameter;
pub use precision::Precision;

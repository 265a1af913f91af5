//! The networks whose features scores are computed from: Inception for FID and its kin, DINOv2 for FD-DINOv2.
//!
//! Legend of every `# Shapes` section: `B` batch, `N` tokens, `D` width.

pub mod dinov2;
pub mod inception;

//! FID, sFID, Inception Score, precision, recall and their kin, from features.
//!
//! Legend: `N` pictures, `D` features, `C` classes. Statistics are f64 throughout.

mod distances;

pub mod density_coverage;
pub mod extrapolation;
pub mod frechet;
pub mod inception_score;
pub mod kernel;
pub mod manifold;
pub mod moments;

pub use density_coverage::{DensityCoverage, density_coverage};
pub use extrapolation::{Extrapolation, extrapolate};
pub use frechet::{Frechet, frechet};
pub use inception_score::{InceptionScore, inception_score};
pub use kernel::{Kid, kid, squared_mmd};
pub use manifold::{Blocks, Distances, PrecisionRecall, precision_recall};
pub use moments::{Moments, Statistics};

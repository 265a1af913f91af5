//! FID, sFID, Inception Score, precision, recall and their kin, from features.
//!
//! Legend: `N` pictures, `D` features, `C` classes. Statistics are f64 throughout.

pub mod frechet;
pub mod inception_score;
pub mod manifold;
pub mod moments;

pub use frechet::{Frechet, frechet};
pub use inception_score::inception_score;
pub use manifold::{Blocks, Distances, PrecisionRecall, precision_recall};
pub use moments::{Moments, Statistics};

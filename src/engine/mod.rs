//! Where attempts are executed: this machine, or a cluster.

pub mod attempt;
pub mod batch;
pub mod contract;
mod error;
pub mod local;
mod private;
pub mod ranks;
pub mod srun;
pub mod steady;
pub mod stop;
pub mod supervise;
pub mod tree;
pub mod usage;

use study::file::EngineName;
use study::graph::Step;

pub use error::{Error, Result};

/// Whether the attempts of a step are jobs of a cluster.
pub fn is_far(step: &Step) -> bool {
    step.engine != EngineName::Local
}

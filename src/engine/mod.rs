//! Where attempts are executed: this machine, or a cluster.

pub mod attempt;
pub mod contract;
mod error;
mod local;
pub mod ranks;
pub mod slurm;
pub mod steady;
pub mod stop;
pub mod supervise;
pub mod usage;

use contract::Engine;
use local::Local;
use slurm::SLURM;
use study::file::EngineName;
use study::graph::Step;

pub use error::Error;

/// The engine of a step.
pub fn of(step: &Step) -> &'static dyn Engine {
    match step.engine {
        EngineName::Local => &Local,
        EngineName::Slurm => &*SLURM,
    }
}

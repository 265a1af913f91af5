//! Where everything came from: the settings of each stage, when and where it ran, digests, and the commands that do it again.

mod here;
pub mod lineage;
mod ran;
mod reproduce;

pub use here::{Here, programs};
pub use lineage::{Lineage, table};
pub use ran::{duration, section as run};
pub use reproduce::section as reproduce;

//! Variants and past runs in rows, with the parameters that differ and the metrics in columns.

pub mod columns;
pub mod format;
pub mod rows;
mod seeds;
pub mod select;

pub use seeds::together;

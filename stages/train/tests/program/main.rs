//! The program `train`, run as people and the runner do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cli;
mod damage;
mod gpu;
mod memory;
mod outputs;
mod side_by_side;
mod support;
mod variants;

//! The program `train`, run as people and the runner do.

mod cli;
mod support;
mod variants;

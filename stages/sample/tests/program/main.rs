//! The program itself.

#![expect(clippy::unwrap_used, reason = "a test whose set-up fails has failed")]

mod cli;
mod labels;
mod numbers;
mod support;

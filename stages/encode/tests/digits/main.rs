//! The digits through the shipped autoencoder: what it keeps of them, and the program as a user calls it.

#![expect(clippy::unwrap_used, reason = "a test whose set-up fails has failed")]

mod autoencoders;
mod moments;
mod pieces;
mod processes;
mod support;

//! Datasets as people have them, on either side; statistics and labels of others.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod labels;
mod pictures;
mod statistics;
mod support;

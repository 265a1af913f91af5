//! The program itself: the recorded run of ADM's evaluator, and mistakes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../../crates/extractors/tests/recipe/mod.rs"]
mod recipe;

mod inputs;
mod scores;
mod support;

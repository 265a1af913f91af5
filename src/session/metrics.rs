//! The numbers that a study is about: those in the outputs that it shows.

use crate::cache::metrics::together;
use crate::session::{Session, StepOutputs};
use serde_json::{Map, Value};
use study::graph::Step;

/// The numbers of a step: in the outputs that it shows or, where no step of the study shows any, in all that are JSON
/// objects.
pub fn metrics(session: &Session, step: &Step, known: &StepOutputs) -> Map<String, Value> {
    let all: Vec<String> = step.outputs.iter().map(|output| output.name.clone()).collect();
    together(&session.store, &known.outputs, if session.shows { &step.show } else { &all })
}

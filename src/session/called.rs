//! What a person calls the output of a stage: the path that was typed in its place, or that of `out/`.

use crate::session::{Called, Session};
use std::path::PathBuf;
use study::graph::Step;

impl Session {
    /// What an output is called that a step reads.
    pub fn called(&self, from: usize, output: usize, reader: &Step) -> Called {
        let step = &self.graph.steps[from];
        let output = &step.outputs[output];
        if let Some(typed) = self.given.get(&(from, output.name.clone())) {
            return Called { path: typed.clone(), typed: true };
        }
        // Of several variants that have it the reader's own is named, or the first.
        let shared = step.variants.iter().find(|variant| reader.variants.contains(variant));
        let variant = shared.or(step.variants.first()).map_or("", String::as_str);
        Called { path: self.published(step, variant, &output.file), typed: false }
    }

    /// Where an output of a variant is shown.
    pub fn published(&self, step: &Step, variant: &str, file: &str) -> PathBuf {
        self.published_in(step, variant).join(file)
    }

    /// The folder where all outputs of a variant are, in the study's root.
    pub fn published_in(&self, step: &Step, variant: &str) -> PathBuf {
        // Joining an empty name adds nothing.
        self.graph.out.join(variant).join(&step.stage)
    }
}

//! Where what a stage writes is found after it, for what the stage says of it while it writes.

use crate::engine::attempt::Attempt;
use crate::session::{Session, Task};
use std::path::Path;

/// Paths of an attempt, which are gone after it, each with the path under `out/` in its place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places(Vec<(String, String)>);

impl Places {
    /// Of the outputs of a task. Of several variants that have them, the first is named.
    pub fn of(session: &Session, task: &Task, attempt: &Attempt) -> Self {
        let step = &session.graph.steps[task.step];
        let text = |path: &Path| path.strip_prefix(&session.graph.root).unwrap_or(path).display().to_string();
        let variant = step.variants.first().map_or("", String::as_str);
        let out = session.graph.out.join(variant).join(&step.stage);
        let place = |output: &study::graph::Output| {
            let mut after = out.join(&output.file);
            if let Some(instance) = &task.instance {
                after.push(instance.published(&output.file));
            }
            (text(&attempt.out.join(&output.file)), text(&after))
        };
        Self(step.outputs.iter().map(place).collect())
    }

    /// A text of a stage with the paths that are there after it.
    pub fn shown(&self, text: &str) -> String {
        let mut shown = text.to_string();
        for (during, after) in &self.0 {
            shown = replaced(&shown, during, after);
        }
        shown
    }
}

/// A text with one path in the place of another, where that path ends.
fn replaced(text: &str, old: &str, new: &str) -> String {
    let mut pieces = text.split(old);
    let mut replaced = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        let ends = !piece.starts_with(|c: char| c.is_alphanumeric() || "-_".contains(c));
        replaced += if ends { new } else { old };
        replaced += piece;
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_replaced() {
        let places = Places(vec![(".p/out/log".into(), "out/s/log".into())]);
        let said = |text: &str| places.shown(text);
        assert_eq!(said("see .p/out/log/a, /r/.p/out/log."), "see out/s/log/a, /r/out/s/log.");
        assert_eq!(said(".p/out/logs and .p/out/log"), ".p/out/logs and out/s/log");
        assert_eq!(said("nothing"), "nothing");
    }
}

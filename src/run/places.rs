//! What a person calls the paths that a stage is given: `out/` for what it writes, and for what it reads the path that was
//! typed or that of `out/`.

use crate::cache::places::Places;
use crate::engine::attempt::Attempt;
use crate::session::{Called, Input, Place, Session, Task};
use std::path::{Path, PathBuf};
use study::graph::Source;

/// A path as a stage has it, with what a person calls it.
struct Pair {
    during: PathBuf,
    /// In the study's root unless it is as a person typed it.
    after: PathBuf,
    typed: bool,
}

/// Those of an attempt, kept beside its log.
pub fn kept(session: &Session, task: &Task, attempt: &Attempt) -> Places {
    let places = of(session, task, attempt);
    places.keep(&attempt.log);
    places
}

/// Of the outputs and the inputs of a task.
fn of(session: &Session, task: &Task, attempt: &Attempt) -> Places {
    let step = &session.graph.steps[task.step];
    let variant = step.variants.first().map_or("", String::as_str);
    let mut pairs: Vec<Pair> = step
        .outputs
        .iter()
        .map(|output| {
            let mut after = session.published(step, variant, &output.file);
            if let Some(instance) = &task.instance {
                after.push(instance.published(&output.file));
            }
            Pair { during: attempt.out.join(&output.file), after, typed: false }
        })
        .collect();
    for input in task.inputs.iter().filter(|input| matches!(input.place, Place::Store)) {
        pairs.extend(of_input(session, task, attempt, input));
    }
    let root = &session.graph.root;
    let text = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let mut places = Vec::new();
    for Pair { during, after, typed } in pairs {
        // A program may know the whole path by now; what was typed stands for that as well.
        let after = if typed { after.display().to_string() } else { text(&after) };
        if typed {
            places.push((during.display().to_string(), after.clone()));
        }
        places.push((text(&during), after));
    }
    Places(places)
}

/// The paths of an input that lies in the store.
fn of_input(session: &Session, task: &Task, attempt: &Attempt, input: &Input) -> Vec<Pair> {
    let steps = &session.graph.steps;
    let step = &steps[task.step];
    let Some(index) = step.inputs.iter().position(|known| known.name == input.name) else {
        return Vec::new();
    };
    let place = session.store.place(&input.digest);
    match &step.inputs[index].source {
        Source::Output(from, output) => {
            let Called { path: mut after, typed } = session.called(*from, *output, step);
            if let Some(instance) = task.instance.as_ref().filter(|_| step.each == Some(index)) {
                after.push(input.file.as_ref().map_or(instance.stem.as_os_str(), |file| file.as_ref()));
            }
            let named = attempt.named(input).map(|during| Pair { during, after: after.clone(), typed });
            // A program that follows links knows the place in the store.
            named.into_iter().chain([Pair { during: place, after, typed }]).collect()
        }
        Source::Across(parts) => parts
            .iter()
            .map(|part| {
                let file = session.part_file(part);
                let Called { path: after, typed } = session.called(part.step, part.output, step);
                Pair { during: place.join(file), after, typed }
            })
            .collect(),
        Source::Path(_) | Source::Lineage => Vec::new(),
    }
}

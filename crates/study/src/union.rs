//! Several variants as one graph, in which equal steps are one step.

use crate::error::{Error, Result};
use crate::graph::{Graph, Source, Step};
use std::collections::HashMap;

/// Joins the graphs of all variants, the study as it stands first, and keeps the steps of the selected ones.
///
/// A step's name does not depend on the selection: `train` when it is a step of the study as it stands, else
/// `train@` and the first variant that has it.
pub fn union(graphs: Vec<(String, Graph)>, selected: &[String]) -> Result<Graph> {
    let mut joined: Vec<Step> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut frame = None;
    for (name, mut graph) in graphs {
        let mut place = Vec::with_capacity(graph.steps.len());
        for mut step in std::mem::take(&mut graph.steps) {
            for input in &mut step.inputs {
                if let Source::Output(from, _) = &mut input.source {
                    *from = place[*from];
                }
            }
            let at = *known.entry(identity(&step)).or_insert_with(|| {
                if !name.is_empty() {
                    step.id = format!("{}@{name}", step.stage);
                }
                joined.push(step);
                joined.len() - 1
            });
            joined[at].variants.push(name.clone());
            place.push(at);
        }
        // The study's own name, root and build are those of the study as it stands.
        frame.get_or_insert(graph);
    }
    let Some(mut graph) = frame else { return Err(Error::Nothing) };
    let mut place = vec![0; joined.len()];
    for (old, mut step) in joined.into_iter().enumerate() {
        step.variants.retain(|v| selected.contains(v));
        if step.variants.is_empty() {
            continue;
        }
        for input in &mut step.inputs {
            if let Source::Output(from, _) = &mut input.source {
                *from = place[*from];
            }
        }
        place[old] = graph.steps.len();
        graph.steps.push(step);
    }
    Ok(graph)
}

/// Everything that makes a step what it is, except where it is written.
fn identity(step: &Step) -> String {
    use std::fmt::Write;
    let mut text = format!("{}\0", step.stage);
    // Writing to a string cannot fail.
    let _ = match &step.call {
        crate::graph::Call::Run(name) => write!(text, "run {}\0", name.value),
        crate::graph::Call::Command(_, words) => write!(text, "command {words:?}\0"),
    };
    for input in &step.inputs {
        let _ = write!(text, "{} {:?} {:?}\0", input.name, input.source, input.ignore);
    }
    for (name, value) in &step.params {
        let _ = write!(text, "{name}={}\0", value.0);
    }
    for (name, value) in &step.tuning {
        let _ = write!(text, "~{name}={}\0", value.0);
    }
    for output in &step.outputs {
        let (name, file) = (&output.name, &output.file);
        let _ = write!(text, ">{name} {file} {:?} {}\0", output.stream, output.temp);
    }
    let (env, pass) = (&step.env, &step.pass_env);
    let _ = write!(text, "{:?} {env:?} {pass:?} {:?} {:?}", step.resources, step.each, step.show);
    let _ = write!(text, " {} {:?} {:?} {:?}", step.retries, step.timeout, step.engine, step.slurm);
    let _ = write!(text, " {:?} {:?}", step.shards, step.processes);
    text
}

//! Several variants as one graph, in which equal steps are one step.

use crate::error::{Error, Result};
use crate::graph::{Graph, Part, Source, Step};
use crate::mark::Mark;
use crate::order::sort;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Refuses a variant that changes a stage which reads every variant: the stage runs once, as the study has it.
pub fn refuse_changes(graphs: &[(String, Graph)], changes: &[Vec<(String, Mark)>]) -> Result<()> {
    let Some((_, base)) = graphs.first() else { return Ok(()) };
    for (changes, (variant, own)) in changes.iter().zip(graphs) {
        for (stage, mark) in changes {
            if base.steps.iter().chain(&own.steps).any(|step| step.stage == *stage && step.across()) {
                let text = format!(
                    "stage {stage} reads every variant, so it runs once and variant {variant} cannot change it; change it in the \
                     study or in a profile"
                );
                return Err(Error::mistake(mark, text));
            }
        }
    }
    Ok(())
}

/// Joins the graphs of all variants, the study as it stands first, and keeps the steps of the selected ones.
///
/// A step's name does not depend on the selection: `train` when it is a step of the study as it stands, else
/// `train@` and the first variant that has it. A step that reads every variant is one of the study as it stands, and is kept
/// where every variant is selected.
pub fn union(graphs: Vec<(String, Graph)>, selected: &[String]) -> Result<Graph> {
    let mut joined: Vec<Step> =
        Vec::with_capacity(graphs.iter().map(|(_, graph)| graph.steps.len()).max().unwrap_or(0));
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut frame = None;
    // In one graph no two steps are equal.
    let alone = graphs.len() == 1;
    // Of each variant its steps by their stages.
    let mut stages: Vec<(String, HashMap<String, usize>)> = Vec::new();
    for (name, mut graph) in graphs {
        let mut place = Vec::with_capacity(graph.steps.len());
        let mut own = HashMap::new();
        for mut step in std::mem::take(&mut graph.steps) {
            step.inputs.iter_mut().for_each(|input| input.source.renumber(&place));
            let stage = step.stage.clone();
            let once =
                step.across().then(|| joined.iter().position(|j| j.stage == stage && j.across())).flatten();
            let mut new = |mut step: Step| {
                if !name.is_empty() {
                    step.id = format!("{}@{name}", step.stage);
                }
                joined.push(step);
                joined.len() - 1
            };
            let at = match once {
                Some(at) => at,
                None if alone => new(step),
                None => match known.entry(identity(&step)) {
                    Entry::Occupied(there) => *there.get(),
                    Entry::Vacant(free) => *free.insert(new(step)),
                },
            };
            joined[at].variants.push(name.clone());
            place.push(at);
            own.insert(stage, at);
        }
        stages.push((name, own));
        // The study's own name, root and build are those of the study as it stands.
        frame.get_or_insert(graph);
    }
    let Some(mut graph) = frame else { return Err(Error::Nothing) };
    fill_across(&mut joined, &stages[1..])?;
    // A stage across variants comes after the last of them.
    sort(&mut joined)?;
    let whole = stages[1..].iter().all(|(name, _)| selected.contains(name));
    let mut above = vec![false; joined.len()];
    let mut place = vec![0; joined.len()];
    for (old, mut step) in joined.into_iter().enumerate() {
        above[old] = step.across() || step.needs().any(|need| above[need]);
        if above[old] && !whole {
            graph.left_out.push(step.stage);
            continue;
        }
        let everywhere = stages.iter().all(|(name, _)| step.variants.contains(name));
        step.variants.retain(|v| selected.contains(v));
        if above[old] && everywhere {
            // It is one of the study, not of each variant.
            step.variants = vec![String::new()];
        }
        if step.variants.is_empty() {
            continue;
        }
        step.inputs.iter_mut().for_each(|input| input.source.renumber(&place));
        place[old] = graph.steps.len();
        graph.steps.push(step);
    }
    graph.left_out.sort();
    graph.left_out.dedup();
    Ok(graph)
}

/// Makes inputs across variants of the parts of all variants. So far each has that of the study as it stands.
fn fill_across(joined: &mut [Step], variants: &[(String, HashMap<String, usize>)]) -> Result<()> {
    for at in 0..joined.len() {
        for input in 0..joined[at].inputs.len() {
            let Source::Across(parts) = &joined[at].inputs[input].source else { continue };
            let mark = &joined[at].inputs[input].mark;
            let Some(own) = parts.first() else { continue };
            let (stage, name) = (&joined[own.step].stage, &joined[own.step].outputs[own.output].name);
            let what = format!("`{stage}.{name}@*` is that output of every variant");
            if variants.is_empty() {
                return Err(Error::mistake(
                    mark,
                    format!("{what}, and the study has none; it needs `variants:`"),
                ));
            }
            let part = |(variant, stages): &(String, HashMap<String, usize>)| {
                let step = *stages.get(stage)?;
                let output = joined[step].outputs.iter().position(|output| output.name == *name)?;
                Some(Part { variant: variant.clone(), step, output })
            };
            let parts: Vec<Part> = variants.iter().filter_map(part).collect();
            if parts.is_empty() {
                return Err(Error::mistake(mark, format!("{what}, and none of them has it")));
            }
            joined[at].inputs[input].source = Source::Across(parts);
        }
    }
    Ok(())
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
    let _ = write!(text, " {:?}", step.cluster);
    let _ = write!(text, " {:?} {:?}", step.shards, step.processes);
    text
}

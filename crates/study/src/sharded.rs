//! Stages in shards: each shard an action of its own, and of a stage program one more that joins them.
//!
//! A stage program is told which part of its work to do by the parameters `shard` and `shards`. Called with an input
//! `OUTPUT-parts`, a folder with one entry for each shard, it joins them to what it would have made in one piece. A
//! command is told by `${params.shard}` and `${params.shards}`; who reads its outputs reads the folder of entries.

use crate::file::EngineName;
use crate::graph::{Call, Graph, Input, Source, Step};

/// The parameters by which a shard knows what it is: its number from 0, and how many there are.
pub const PARAMS: [&str; 2] = ["shard", "shards"];

/// Puts the steps of the shards before each stage program that is sharded; the step itself becomes the one that joins.
pub fn expand(graph: &mut Graph) {
    let mut place = Vec::with_capacity(graph.steps.len());
    let mut steps: Vec<Step> = Vec::with_capacity(graph.steps.len());
    for mut step in std::mem::take(&mut graph.steps) {
        step.inputs.iter_mut().for_each(|input| input.source.renumber(&place));
        if step.shards.is_some() && matches!(step.call, Call::Run(_)) {
            let at = steps.len();
            let mut shards = step.clone();
            shards.id = format!("{}.shards", step.id);
            // Nothing of it appears in `out/`.
            shards.variants = Vec::new();
            shards.show = Vec::new();
            steps.push(shards);
            let parts = step.outputs.iter().enumerate().map(|(i, output)| Input {
                name: format!("{}-parts", output.name),
                mark: output.mark.clone(),
                source: Source::Output(at, i),
                ignore: Vec::new(),
            });
            step.inputs.extend(parts);
            step.shards = None;
            // Joining copies files.
            step.engine = EngineName::Local;
            step.resources.cpus = None;
            step.resources.gpus = 0;
            step.resources.memory.0 = 0;
            step.processes = None;
            step.cost = None;
        }
        place.push(steps.len());
        steps.push(step);
    }
    graph.steps = steps;
}

//! Which steps a command is about.

use crate::session::error::Result;
use std::collections::{BTreeMap, HashMap, HashSet};
use store::Produced;
use study::graph::{Graph, Step};

/// The steps asked for and those they need; a replaced step needs nothing.
pub fn wanted(
    graph: &Graph,
    stages: &[String],
    replaced: &HashMap<usize, BTreeMap<String, Produced>>,
) -> Result<Vec<bool>> {
    let mut wanted = vec![false; graph.steps.len()];
    let targets: Vec<usize> = match stages {
        [] => {
            // Without names the targets are what nobody reads; a replaced step makes those before it needless.
            let read: HashSet<usize> = graph.steps.iter().flat_map(Step::needs).collect();
            (0..graph.steps.len()).filter(|i| !read.contains(i)).collect()
        }
        names => {
            let mut targets = Vec::new();
            for name in names {
                targets.extend(graph.find(name)?);
            }
            targets
        }
    };
    let mut open = targets;
    while let Some(i) = open.pop() {
        if !std::mem::replace(&mut wanted[i], true) && !replaced.contains_key(&i) {
            open.extend(graph.steps[i].needs());
        }
    }
    Ok(wanted)
}

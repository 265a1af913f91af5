//! The order of the steps, or the circle in which they go round.

use crate::error::{Error, Result};
use crate::graph::Step;
use std::collections::BTreeSet;

/// Puts the steps in an order that can be run, where they lie, and tells each where those that it reads from are now.
pub(crate) fn sort(steps: &mut [Step]) -> Result<()> {
    let mut place = vec![0; steps.len()];
    order(steps)?.into_iter().enumerate().for_each(|(new, old)| place[old] = new);
    for input in steps.iter_mut().flat_map(|step| &mut step.inputs) {
        input.source.renumber(&place);
    }
    for at in 0..steps.len() {
        while place[at] != at {
            let to = place[at];
            steps.swap(at, to);
            place.swap(at, to);
        }
    }
    Ok(())
}

/// An order in which every step comes after those it reads from, otherwise as written; or the cycle.
fn order(steps: &[Step]) -> Result<Vec<usize>> {
    let mut missing: Vec<usize> = steps.iter().map(|s| s.needs().count()).collect();
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
    for (i, step) in steps.iter().enumerate() {
        step.needs().for_each(|need| readers[need].push(i));
    }
    let mut ready: BTreeSet<usize> = (0..steps.len()).filter(|i| missing[*i] == 0).collect();
    let mut order = Vec::with_capacity(steps.len());
    while let Some(i) = ready.pop_first() {
        order.push(i);
        for &reader in &readers[i] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                ready.insert(reader);
            }
        }
    }
    if order.len() == steps.len() {
        return Ok(order);
    }
    // Every step left waits on another one that is left, so walking back must come round.
    let start = missing.iter().position(|m| *m > 0).unwrap_or(0);
    let mut walk = vec![start];
    loop {
        let last = walk[walk.len() - 1];
        let back = steps[last].needs().find(|need| missing[*need] > 0).unwrap_or(start);
        if let Some(at) = walk.iter().position(|w| *w == back) {
            let cycle = &walk[at..];
            let first = cycle.iter().min().copied().unwrap_or(back);
            let turn = cycle.iter().position(|c| *c == first).unwrap_or(0);
            let mut names: Vec<&str> =
                cycle[turn..].iter().chain(&cycle[..turn]).map(|i| steps[*i].stage.as_str()).collect();
            names.push(&steps[first].stage);
            names.reverse();
            let text = format!("the stages go round in a circle: {}", names.join(" → "));
            return Err(Error::mistake(&steps[first].mark, text));
        }
        walk.push(back);
    }
}

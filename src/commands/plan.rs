//! `pipeline plan`.

use super::check::warn;
use super::output::{print_json, print_states, tell_left_out};
use crate::cli::Global;
use crate::error::Result;
use crate::session::Session;
use crate::session::plan::State;
use crate::text::{duration, size};
use std::collections::HashMap;

/// Names on a line; of more the others are counted.
const NAMED: usize = 6;

/// Says what a run would do, and why.
pub fn plan(global: &Global, stages: &[String], cost: bool) -> Result<()> {
    let mut session = Session::open(&global.options(stages))?;
    let planned = crate::session::plan::plan(&mut session)?;
    if stages.is_empty() {
        tell_left_out(&session.graph);
    }
    if cost {
        return super::cost::cost(global, &session, &planned);
    }
    let runs = planned.iter().filter(|p| matches!(p.state, State::ToRun { .. } | State::Waiting { .. }));
    let steps = session.graph.steps.iter().enumerate();
    let places: HashMap<&str, usize> = steps.map(|(place, step)| (step.id.as_str(), place)).collect();
    let runs: Vec<usize> = runs.filter_map(|p| places.get(p.stage.as_str()).copied()).collect();
    warn(&session, &runs);
    if global.json {
        return print_json(&planned);
    }
    let rows: Vec<Vec<String>> = planned
        .iter()
        .map(|p| {
            let (state, why) = match &p.state {
                State::Cached => ("cached", String::new()),
                State::Replaced => ("replaced", "--with stands in for it".into()),
                State::ToFetch { bytes } => ("to fetch", format!("{} from the cache", size(*bytes))),
                State::ToRun { reasons } => ("to run", reasons.join(", ")),
                State::Waiting { on } => ("waiting", format!("on {}", some(on))),
            };
            let last = p.last_seconds.map(|s| format!("last {}", duration(s))).unwrap_or_default();
            vec![p.stage.clone(), state.into(), last, why]
        })
        .collect();
    print_states(&rows)
}

/// The first names, and how many more there are.
fn some(names: &[String]) -> String {
    match names.get(..NAMED) {
        Some(first) if names.len() > NAMED => {
            format!("{} and {} more", first.join(", "), names.len() - NAMED)
        }
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_counted() {
        let names: Vec<String> = (0..9).map(|i| format!("s{i}")).collect();
        assert_eq!(some(&names), "s0, s1, s2, s3, s4, s5 and 3 more");
        assert_eq!(some(&names[..6]), "s0, s1, s2, s3, s4, s5");
        assert_eq!(some(&names[..1]), "s0");
    }
}

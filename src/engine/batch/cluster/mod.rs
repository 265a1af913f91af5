//! Any batch system, by the four commands of a study or of a preset.

mod call;
pub mod submit;

use super::known::{Known, Seen, Verdict};
use super::papers;
use super::system::{Batch, Named, Refusal, Submitted, System};
use crate::engine::attempt::Attempt;
use crate::engine::error::Error;
use call::call;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use study::clusters::{Act, Cluster, State};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// So many ids go with one call; more would be longer than a command line may be.
const AT_ONCE: usize = 10_000;

/// See the module.
pub struct Commands(pub Cluster);

impl Commands {
    /// Calls a command for some ids. `None` where there is none.
    fn run(&self, act: Act, ids: &[String]) -> Option<Result<String, String>> {
        let words = self.0.command(act, |_| String::new(), ids)?;
        let name = format!("`{}` of the cluster {}", act.name(), self.0.name);
        Some(match call(&words, &self.0.root, PATIENCE) {
            Err(text) => Err(format!("{name}: {text}")),
            Ok(said) => said.failure(&name).map_or(Ok(said.out), Err),
        })
    }
}

impl System for Commands {
    fn asker(&self) -> String {
        format!("`ask` of the cluster {}", self.0.name)
    }

    fn largest_array(&self) -> u32 {
        self.0.array
    }

    fn any_numbers(&self) -> bool {
        false
    }

    fn submit(&self, batch: &Batch) -> Result<Submitted, Refusal> {
        submit::submit(&self.0, batch)
    }

    fn states(&self, ids: &[String]) -> Result<BTreeMap<String, Known>, String> {
        let asked: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
        let mut known = BTreeMap::new();
        for some in ids.chunks(AT_ONCE) {
            let text = self.run(Act::Ask, some).unwrap_or_else(|| Ok(String::new()))?;
            let lines = text.lines().filter_map(|line| read(&self.0, line));
            known.extend(lines.filter(|(id, _)| asked.contains(id.as_str())));
        }
        Ok(known)
    }

    fn find(&self, _: &BTreeSet<String>, _: Option<&str>) -> Result<BTreeMap<Named, String>, String> {
        // What submits writes the ids down itself.
        Ok(BTreeMap::new())
    }

    fn tell(&self, ids: &[String], level: u8) {
        let (mut run, mut wait) = (Vec::new(), ids.to_vec());
        if level == 1 {
            // Which of them runs may have changed since the last question; where nobody knows, nothing is lost by a signal.
            let states = self.states(ids);
            (run, wait) = ids.iter().cloned().partition(|id| match &states {
                Ok(known) => known.get(id).is_some_and(|known| known.running),
                Err(_) => true,
            });
        }
        // A job that is over already cannot be told, and need not be; whoever waits sees what became of it.
        if !run.is_empty() && self.run(Act::Signal, &run).is_none() {
            wait.append(&mut run);
        }
        if !wait.is_empty() {
            let _ = self.run(Act::Cancel, &wait);
        }
    }

    fn unseen(&self, id: &str, seen: &Seen, attempt: &Attempt) -> Option<Error> {
        let said = match seen {
            Seen::Known(Known { verdict: Verdict::Ended | Verdict::Stuck, state, reason, .. }) => {
                let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
                format!("it is {state}{why}")
            }
            Seen::Unknown => "it is no longer known".into(),
            Seen::Known(_) | Seen::Unasked => return None,
        };
        if papers::has_begun(&attempt.folder) {
            return None;
        }
        Some(Error::NotBegun { id: id.into(), said, path: attempt.folder.clone() })
    }
}

/// A line of `ask`: the id, the state, and why.
fn read(cluster: &Cluster, line: &str) -> Option<(String, Known)> {
    let mut words = line.split_whitespace();
    let (id, state) = (words.next()?, words.next()?);
    let meaning = cluster.state(state);
    let verdict = match meaning {
        Some(State::Ended) => Verdict::Ended,
        Some(State::Cancelled) => Verdict::Cancelled,
        Some(State::Timeout) => Verdict::Timeout,
        Some(State::Memory) => Verdict::Memory,
        Some(State::Again) => Verdict::Again,
        Some(State::Stuck) => Verdict::Stuck,
        Some(State::Pending | State::Running) | None => Verdict::Open,
    };
    let (pending, running) = (meaning == Some(State::Pending), meaning == Some(State::Running));
    // The letters of a system say little to people.
    let shown = match meaning {
        Some(State::Pending) => "pending",
        Some(State::Running) => "running",
        _ => state,
    };
    let reason = words.collect::<Vec<_>>().join(" ");
    Some((id.into(), Known { state: shown.into(), verdict, pending, running, code: 0, reason }))
}

//! Whether the programs that `run:` names have to be made.

use crate::session::Session;
use crate::session::error::Result;
use crate::session::homes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::digest::Digest;
use store::record;
use store::walk::{self, Links};
use study::graph::{BuildStep, Call, Step};

/// Everything that a build depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sources {
    command: Vec<String>,
    sources: BTreeMap<String, Digest>,
}

/// A build that succeeded: its sources, and the programs as it left them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Built {
    pub from: Sources,
    pub programs: BTreeMap<String, Digest>,
}

/// Why the programs have to be made, in words; `None` when they are up to date or the study makes none.
pub fn stale(session: &Session) -> Result<Option<Vec<String>>> {
    let Some(build) = &session.graph.build else { return Ok(None) };
    let names = names(session);
    if names.is_empty() {
        return Ok(None);
    }
    let now = sources(session, build)?;
    let Some(built) = record::read::<Built>(&session.store.built()) else {
        return Ok(Some(vec!["it never ran".into()]));
    };
    let mut reasons = Vec::new();
    if built.from.command != now.command {
        reasons.push("the command changed".into());
    }
    for (name, digest) in &now.sources {
        if built.from.sources.get(name) != Some(digest) {
            reasons.push(format!("source `{name}` changed"));
        }
    }
    if built.from.sources.len() > now.sources.len() {
        reasons.push("a source was taken away".into());
    }
    for name in &names {
        let path = session.graph.root.join(&build.programs).join(name);
        let there = walk::hash(&path, &session.store.stats, Links::Keep).ok().map(|h| h.digest);
        if there.is_none() {
            // One that the last build did not leave there either is one of the stage programs that are installed.
            if !built.programs.contains_key(name) && homes::find(name, &session.homes()).is_some() {
                continue;
            }
            reasons.push(format!("program `{name}` is missing"));
        } else if built.programs.get(name) != there.as_ref() && reasons.is_empty() {
            reasons.push(format!("program `{name}` is not the one that was built"));
        }
    }
    Ok((!reasons.is_empty()).then_some(reasons))
}

/// Whether the build makes the program of a step.
pub fn makes(session: &Session, step: &Step) -> bool {
    session.graph.build.is_some() && matches!(&step.call, Call::Run(name) if !name.contains('/'))
}

/// The programs that the study expects from its build.
pub fn names(session: &Session) -> Vec<String> {
    let mut names: Vec<String> = session
        .graph
        .steps
        .iter()
        .filter(|step| makes(session, step))
        .filter_map(|step| match &step.call {
            Call::Run(name) => Some(name.value.clone()),
            Call::Command(..) => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

pub fn sources(session: &Session, build: &BuildStep) -> Result<Sources> {
    let mut sources = BTreeMap::new();
    for source in &build.sources {
        let path = std::path::Path::new(source.as_str());
        sources.insert(source.value.clone(), session.hash_path(path, &source.mark)?.digest);
    }
    Ok(Sources { command: build.command.iter().map(ToString::to_string).collect(), sources })
}

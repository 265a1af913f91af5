//! What an attempt runs and reads of the study, and whether it stays as its key says from the start to the end.
//!
//! Contents are compared when the attempt starts and when its outputs are taken; between its start and its end, what
//! `stat` says of each file. So a file that was changed and put back is noticed as well.

use crate::cache::failure::{Change, PartKind};
use crate::engine::error::{Error, Result};
use crate::session::{Place, Session, Task};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use store::IoContext;
use store::Store;
use store::digest::Digest;
use store::ignore::Ignore;
use store::small_path::SmallPath;
use store::statcache::StatCache;
use store::walk::{self, Links, Stamp};
use study::graph::Call;

/// The program, a script, or an input that is a path of the study.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    pub kind: PartKind,
    pub name: String,
    pub path: PathBuf,
    /// What the key says that it is.
    pub digest: Digest,
    /// What does not count where it is a folder.
    pub ignore: Ignore,
}

impl Part {
    /// Whether it is not, or no longer, what the key says.
    pub fn changed(&self, stats: &StatCache) -> bool {
        !walk::hash(&self.path, stats, Links::Follow(&self.ignore)).is_ok_and(|now| now.digest == self.digest)
    }

    fn change(&self) -> Change {
        Change::of(self.kind, &self.name, &[])
    }

    /// What of it is not what the key says, if anything; `store` has the manifest of a folder.
    fn difference(&self, store: &Store) -> Option<Change> {
        let now = walk::hash(&self.path, &store.stats, Links::Follow(&self.ignore)).ok();
        if now.as_ref().is_some_and(|now| now.digest == self.digest) {
            return None;
        }
        let files = match (store.manifest(&self.digest), now.and_then(|now| now.manifest)) {
            (Some(before), Some(now)) => before.differences(&now),
            _ => Vec::new(),
        };
        Some(Change::of(self.kind, &self.name, &files))
    }

    fn stamps(&self) -> Vec<(SmallPath, Stamp)> {
        // What cannot be read is noticed by its content, which cannot be read either.
        walk::stamps(&self.path, Links::Follow(&self.ignore)).unwrap_or_default()
    }
}

/// Everything of the study that a task runs or reads. Outputs of other stages lie in the store, which watches itself.
pub fn parts(session: &Session, task: &Task) -> Result<Vec<Part>> {
    let (step, root) = (&session.graph.steps[task.step], &session.graph.root);
    let program = session.programs[task.step].as_ref();
    let program = program.ok_or_else(|| Error::NoProgram(step.stage.clone()))?;
    let name = match &step.call {
        Call::Run(name) => name.value.clone(),
        Call::Command(_, words) => words[0].literal().unwrap_or_default().to_string(),
    };
    let (path, digest) = (program.path.clone(), task.action.program);
    let mut parts = vec![Part { kind: PartKind::Program, name, path, digest, ignore: Ignore::nothing() }];
    for (name, digest) in &task.action.files {
        let ignore = session.ignore(Path::new(name), &session.graph.ignore)?;
        let (kind, name, path) = (PartKind::File, name.clone(), root.join(name));
        parts.push(Part { kind, name, path, digest: *digest, ignore });
    }
    for input in &task.inputs {
        if let Place::Study(path, ignore) = &input.place {
            let (name, path, ignore) = (input.name.clone(), root.join(path), ignore.clone());
            parts.push(Part { kind: PartKind::Input, name, path, digest: input.digest, ignore });
        }
    }
    Ok(parts)
}

/// The parts that are not what the key says.
pub fn changed(parts: &[Part], stats: &StatCache) -> Vec<Change> {
    parts.iter().filter(|part| part.changed(stats)).map(Part::change).collect()
}

/// The same, with the files that are others.
pub fn differences(parts: &[Part], store: &Store) -> Vec<Change> {
    parts.iter().filter_map(|part| part.difference(store)).collect()
}

/// Parts that are being watched.
pub struct Steady<'a> {
    parts: Vec<(&'a Part, Vec<(SmallPath, Stamp)>)>,
    stats: &'a StatCache,
}

impl<'a> Steady<'a> {
    /// Begins to watch; those that have changed already when there are any.
    pub fn begin(parts: &'a [Part], stats: &'a StatCache) -> Result<Self, Vec<Change>> {
        // The stamps come first: what changes while contents are compared is noticed at the end.
        let watched = parts.iter().map(|part| (part, part.stamps())).collect();
        match changed(parts, stats) {
            none if none.is_empty() => Ok(Self { parts: watched, stats }),
            changed => Err(changed),
        }
    }

    /// What changed since then.
    pub fn end(&self) -> Vec<Change> {
        self.parts.iter().filter_map(|(part, before)| self.moved(part, before)).collect()
    }

    fn moved(&self, part: &Part, before: &[(SmallPath, Stamp)]) -> Option<Change> {
        let now = part.stamps();
        let files = others(before, &now);
        if files.is_empty() {
            return None;
        }
        Some(Change { put_back: !part.changed(self.stats), ..Change::of(part.kind, &part.name, &files) })
    }
}

/// The files that were written, made or taken away between two looks, each sorted by path.
fn others(before: &[(SmallPath, Stamp)], now: &[(SmallPath, Stamp)]) -> Vec<PathBuf> {
    let (mut before, mut files) = (before.iter().peekable(), Vec::new());
    let earlier = |a: &Path, b: &Path| a.as_os_str() < b.as_os_str();
    for (path, stamp) in now {
        while let Some((gone, _)) = before.next_if(|(other, _)| earlier(other, path)) {
            files.push(gone.to_path_buf());
        }
        let known = before.next_if(|(other, _)| other == path);
        if !known.is_some_and(|(_, before)| before.same(stamp)) {
            files.push(path.to_path_buf());
        }
    }
    files.extend(before.map(|(gone, _)| gone.to_path_buf()));
    files.sort();
    files
}

/// A part as it is told to a node, which need not read it when it looks as it did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    part: Part,
    stamps: Digest,
}

/// The parts that a node has to compare. The system's own programs differ from node to node.
pub fn told(session: &Session, task: &Task, parts: &[Part]) -> Result<Vec<Told>> {
    let root = session.graph.root.canonicalize().at("finding", &session.graph.root)?;
    let built = matches!(session.graph.steps[task.step].call, Call::Run(_));
    let ours = |part: &Part| part.path.canonicalize().is_ok_and(|path| path.starts_with(&root));
    let parts = parts.iter().enumerate().filter(|(i, part)| *i > 0 || built || ours(part));
    Ok(parts.map(|(_, part)| Told { stamps: Stamp::sum(&part.stamps()), part: part.clone() }).collect())
}

/// Begins to watch on a node, where no digests are remembered: only what looks otherwise than it did is read.
pub fn on_node<'a>(told: &'a [Told], stats: &'a StatCache) -> Result<Steady<'a>, Vec<Change>> {
    let mut parts = Vec::new();
    let mut changed = Vec::new();
    for told in told {
        let stamps = told.part.stamps();
        if Stamp::sum(&stamps) != told.stamps && told.part.changed(stats) {
            changed.push(told.part.change());
        }
        parts.push((&told.part, stamps));
    }
    if changed.is_empty() { Ok(Steady { parts, stats }) } else { Err(changed) }
}

//! The study file: reading it, resolving it, checking it against the programs.

pub mod de;
pub mod describe;
pub mod file;
pub mod graph;
pub mod template;
pub mod tree;

use crate::error::{Error, IoContext, Result};
use crate::study::de::{Marked, Text};
use crate::study::graph::Graph;
use crate::study::tree::Mark;
use std::path::Path;
use std::sync::Arc;

/// Reads and resolves the study in `path`, with `stage.param=value` overrides.
pub fn load(path: &Path, overrides: &[String]) -> Result<Graph> {
    let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::Usage(format!("no study at {}; name one with --file", path.display()))
        }
        _ => Error::Io { what: format!("reading {}", path.display()), source: e },
    })?;
    let node = tree::parse(&Arc::from(path.display().to_string()), &text)?;
    let study: file::Study = de::from_node(&node)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().at("finding", folder)?;
    let mut graph = graph::resolve(&study, &folder)?;
    for text in overrides {
        set(&mut graph, text)?;
    }
    Ok(graph)
}

/// Applies one `--set stage.param=value`. Whether the name exists is checked with all others, later.
fn set(graph: &mut Graph, text: &str) -> Result<()> {
    let wrong = || Error::Usage(format!("--set {text}: expected stage.param=value"));
    let (target, value) = text.split_once('=').ok_or_else(wrong)?;
    let (stage, name) = target.split_once('.').ok_or_else(wrong)?;
    let step = graph.step(stage)?;
    let step = &mut graph.steps[step];
    let mark = Mark { file: Arc::from(format!("--set {text}")), line: 0 };
    let value = Marked { value: Text(value.into()), mark };
    let given = step.params.iter_mut().chain(&mut step.tuning).find(|(key, _)| key == name);
    match given {
        Some((_, old)) => *old = value,
        None => step.params.push((name.into(), value)),
    }
    Ok(())
}

//! The study file: reading it, resolving it, checking it against the programs.

pub mod de;
pub mod describe;
pub mod file;
pub mod graph;
pub mod overlay;
pub mod template;
pub mod tree;
pub mod union;

use crate::error::{Error, IoContext, Result, hint};
use crate::study::de::{Marked, Text};
use crate::study::graph::Graph;
use crate::study::tree::Mark;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which study, and what the command line changes in it.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The study file.
    pub file: PathBuf,
    pub profile: Option<String>,
    /// Names of variants, `*` for all; none means the study as it stands.
    pub variants: Vec<String>,
    /// `stage.param=value` and `vars.name=value`.
    pub set: Vec<String>,
}

/// Reads and resolves a study.
pub fn load(choice: &Choice) -> Result<Graph> {
    let (vars, params): (Vec<&String>, Vec<&String>) =
        choice.set.iter().partition(|s| s.starts_with("vars."));
    let vars = vars.iter().map(|text| {
        let pair = text["vars.".len()..].split_once('=').map(|(n, v)| (n.to_string(), v.to_string()));
        pair.ok_or_else(|| Error::Usage(format!("--set {text}: expected vars.name=value")))
    });
    let vars = vars.collect::<Result<Vec<_>>>()?;
    let folder = choice.file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let read = overlay::read(&choice.file, choice.profile.as_deref(), &vars)?;
    let folder = folder.canonicalize().at("finding", folder)?;
    let names: Vec<String> = read.iter().map(|v| v.name.clone()).collect();
    let mut graphs = Vec::with_capacity(read.len());
    for variant in &read {
        let study: file::Study = de::from_node(&variant.tree)?;
        graphs.push((variant.name.clone(), graph::resolve(&study, &folder)?));
    }
    let mut graph = union::union(graphs, &selected(&choice.variants, &names)?)?;
    for text in params {
        set(&mut graph, text)?;
    }
    Ok(graph)
}

/// The names of the variants asked for.
fn selected(asked: &[String], names: &[String]) -> Result<Vec<String>> {
    if asked.is_empty() {
        return Ok(vec![String::new()]);
    }
    let mut selected = Vec::new();
    for name in asked {
        match names.iter().find(|n| *n == name && !n.is_empty()) {
            Some(name) => selected.push(name.clone()),
            None if name == "*" && names.len() > 1 => selected.extend_from_slice(&names[1..]),
            None => {
                let near = hint(name, names[1..].iter().map(String::as_str));
                return Err(Error::Usage(format!("the study has no variant `{name}`{near}")));
            }
        }
    }
    Ok(selected)
}

/// Applies one `--set stage.param=value`. Whether the name exists is checked with all others, later.
fn set(graph: &mut Graph, text: &str) -> Result<()> {
    let wrong = || Error::Usage(format!("--set {text}: expected stage.param=value"));
    let (target, value) = text.split_once('=').ok_or_else(wrong)?;
    let (stage, name) = target.rsplit_once('.').ok_or_else(wrong)?;
    for step in graph.find(stage)? {
        let step = &mut graph.steps[step];
        let mark = Mark { file: Arc::from(format!("--set {text}")), line: 0 };
        let value = Marked { value: Text(value.into()), mark };
        let given = step.params.iter_mut().chain(&mut step.tuning).find(|(key, _)| key == name);
        match given {
            Some((_, old)) => *old = value,
            None => step.params.push((name.into(), value)),
        }
    }
    Ok(())
}

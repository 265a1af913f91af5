//! The study file: reading it, resolving it, checking it against the programs.

pub mod clusters;
mod de;
pub mod describe;
pub mod environment;
mod error;
pub mod file;
mod found;
pub mod graph;
mod hidden;
mod mark;
mod matrix;
mod naming;
mod operators;
mod order;
mod overlay;
mod pasted;
mod processes;
mod quantity;
mod resolve;
pub mod schema;
pub mod sharded;
pub mod shell;
mod slurm;
mod source;
pub mod template;
mod text;
mod tree;
mod union;

pub use error::{Error, Result, hint};
pub use found::find;
pub use hidden::hidden;
pub use mark::Mark;
pub use matrix::seed_of;
pub use naming::normal;
pub use processes::Processes;
pub use quantity::{Bytes, Time};

use crate::de::{Marked, Text};
use crate::graph::Graph;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The key of a stage that `--set` reaches beside its parameters.
const PROCESSES: &str = "processes";

/// Which study, and what the command line changes in it.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The study file.
    pub file: PathBuf,
    /// Overlay to put over it.
    pub profile: Option<String>,
    /// Names of variants, `*` for all; none, and the empty name, mean the study as it stands.
    pub variants: Vec<String>,
    /// `stage.param=value`, `stage.processes=value` and `vars.name=value`.
    pub set: Vec<String>,
    /// Where all stages run, whatever the study says.
    pub engine: Option<file::EngineName>,
}

/// Reads and resolves a study.
pub fn load(choice: &Choice) -> Result<Graph> {
    let (vars, params): (Vec<&String>, Vec<&String>) =
        choice.set.iter().partition(|s| s.starts_with("vars."));
    let vars = vars.iter().map(|text| {
        let pair = text["vars.".len()..].split_once('=').map(|(n, v)| (n.to_string(), v.to_string()));
        pair.ok_or_else(|| Error::Set { text: text.to_string(), form: "vars.name=value" })
    });
    let vars = vars.collect::<Result<Vec<_>>>()?;
    let folder = choice.file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let read = overlay::read(&choice.file, choice.profile.as_deref(), &vars)?;
    let folder =
        folder.canonicalize().map_err(|e| Error::Io { verb: "finding", path: folder.into(), source: e })?;
    let names: Vec<String> = read.iter().map(|v| v.name.clone()).collect();
    let (mut graphs, mut changes) = (Vec::with_capacity(read.len()), Vec::with_capacity(read.len()));
    for variant in read {
        let study: file::Study = de::from_node(&variant.tree)?;
        // All of a large study that has served is let go.
        drop(variant.tree);
        let graph = resolve::resolve(&study, &variant.name, &folder)?;
        graphs.push((variant.name, graph));
        changes.push(variant.changes);
    }
    union::refuse_changes(&graphs, &changes)?;
    let mut graph = union::union(graphs, &selected(&choice.variants, &names)?)?;
    for text in params {
        set(&mut graph, text)?;
    }
    if let Some(engine) = choice.engine {
        graph.steps.iter_mut().for_each(|step| step.engine = engine);
    }
    resolve::check_clusters(&graph.steps)?;
    pasted::refuse(&graph)?;
    sharded::expand(&mut graph);
    Ok(graph)
}

/// The same, with every variant where none is selected and one of these stages reads them all.
pub fn load_for(choice: &Choice, stages: &[String]) -> Result<Graph> {
    let graph = load(choice)?;
    if choice.variants.is_empty() && stages.iter().any(|stage| graph.left_out.contains(stage)) {
        return load(&Choice { variants: vec!["*".into()], ..choice.clone() });
    }
    Ok(graph)
}

/// The names of the variants asked for. The name of one that has seeds stands for all of them.
fn selected(asked: &[String], names: &[String]) -> Result<Vec<String>> {
    if asked.is_empty() {
        return Ok(vec![String::new()]);
    }
    let mut selected = Vec::new();
    for name in asked {
        match names.iter().find(|n| *n == name && !n.is_empty()) {
            Some(name) => selected.push(name.clone()),
            None if name.is_empty() => selected.push(String::new()),
            None if name == "*" && names.len() > 1 => selected.extend_from_slice(&names[1..]),
            None if names.iter().any(|n| of_seed(n, name)) => {
                selected.extend(names.iter().filter(|n| of_seed(n, name)).cloned());
            }
            None => {
                let near = hint(name, names[1..].iter().map(String::as_str));
                return Err(Error::NoVariant { name: name.clone(), near });
            }
        }
    }
    Ok(selected)
}

fn of_seed(variant: &str, name: &str) -> bool {
    seed_of(variant).is_some_and(|(before, _)| before == name)
}

/// Applies one `--set stage.param=value`. Whether the name exists is checked with all others, later.
fn set(graph: &mut Graph, text: &str) -> Result<()> {
    let wrong = || Error::Set { text: text.into(), form: "stage.param=value" };
    let (target, value) = text.split_once('=').ok_or_else(wrong)?;
    let (stage, name) = target.rsplit_once('.').ok_or_else(wrong)?;
    for step in graph.find(stage)? {
        let step = &mut graph.steps[step];
        let mark = Mark { file: Arc::from(format!("--set {text}")), line: 0 };
        let own = |pairs: &[(String, Marked<Text>)]| pairs.iter().any(|(key, _)| key == name);
        if name == PROCESSES && !own(&step.params) && !own(&step.tuning) {
            step.processes = Some(value.parse().map_err(|e: String| Error::mistake(&mark, e))?);
            continue;
        }
        let value = Marked { value: Text(value.into()), mark };
        let given = step.params.iter_mut().chain(&mut step.tuning).find(|(key, _)| key == name);
        match given {
            Some((_, old)) => *old = value,
            None => step.params.push((name.into(), value)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUDY: &str = include_str!("../../../pipeline.yaml");
    const PIECES: [&str; 22] = [
        "{",
        "}",
        "[",
        "]",
        ":",
        "-",
        "\n",
        "  ",
        "'",
        "\"",
        "&a ",
        "*a",
        "${",
        "${vars.x}",
        "${inputs.x}",
        "~",
        "|",
        ">",
        "#",
        "variants:",
        "each: ",
        "\u{1f980}",
    ];

    /// The next number of a counter-based generator.
    fn random(state: &mut u64) -> usize {
        *state += 1;
        let hash = blake3::hash(&state.to_le_bytes());
        usize::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
    }

    #[test]
    fn no_mutation_of_a_study_panics() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.yaml");
        let mut state = 0;
        let mut good = 0;
        for _ in 0..1000 {
            let mut text: Vec<char> = STUDY.chars().collect();
            for _ in 0..=random(&mut state) % 4 {
                let at = random(&mut state) % text.len();
                let piece = PIECES[random(&mut state) % PIECES.len()].chars();
                match random(&mut state) % 3 {
                    0 => drop(text.splice(at..at, piece)),
                    1 => drop(text.remove(at)),
                    _ => drop(text.splice(at..(at + 9).min(text.len()), piece)),
                }
            }
            std::fs::write(&file, text.iter().collect::<String>()).unwrap();
            let choice = Choice { file: file.clone(), ..Choice::default() };
            match load(&choice) {
                Ok(_) => good += 1,
                Err(e) => assert_eq!(e.to_string().lines().count(), 1, "{e}"),
            }
        }
        // The paths of the study are not there, so hardly any mutation loads; what counts is that none panics.
        assert!(good < 1000);
    }

    #[test]
    fn no_bytes_make_a_reader_panic() {
        let mut state = 1 << 40;
        for _ in 0..20_000 {
            let length = random(&mut state) % 60;
            let bytes: Vec<u8> =
                (0..length).map(|_| b"dfxl\0\x01$/{}.ai'\\ "[random(&mut state) % 16]).collect();
            let line = String::from_utf8_lossy(&bytes).into_owned();
            let _ = template::parse(&file::Command::Line(line.clone()));
            let _ = line.parse::<Bytes>().is_ok() || line.parse::<Time>().is_ok();
        }
    }
}

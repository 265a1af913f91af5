//! Where an input comes from: another stage's output, of one variant or of all, a path, or the runner.

use crate::de::Marked;
use crate::error::{Error, Result, hint};
use crate::file::Study;
use crate::graph::{Part, Source};
use crate::naming;
use std::collections::HashMap;
use std::path::Path;

/// The stage name that stands for the runner itself in input references.
pub const RESERVED: &str = "pipeline";
/// What an input across variants ends in.
const ACROSS: &str = "@*";

/// Where paths of a study are looked for.
#[derive(Clone, Copy)]
pub struct Folders<'a> {
    pub root: &'a Path,
    /// Relative to the root.
    pub out: &'a Path,
}

/// The source that a text names, in a variant of the study; `index` has the places of the stages.
pub fn of(
    text: &Marked<String>,
    study: &Study,
    index: &HashMap<&str, usize>,
    variant: &str,
    folders: Folders,
) -> Result<Source> {
    match text.strip_suffix(ACROSS) {
        Some(reference) => across(reference, text, study, index, variant),
        None => source(text, study, index, folders),
    }
}

/// This variant's part of an input across variants. A variant may lack the stage, not the study as it stands.
fn across(
    reference: &str,
    text: &Marked<String>,
    study: &Study,
    index: &HashMap<&str, usize>,
    variant: &str,
) -> Result<Source> {
    let wrong = |what: String| Err(Error::mistake(&text.mark, what));
    let Some((stage, output)) = reference.split_once('.').filter(|(stage, _)| *stage != RESERVED) else {
        return wrong(format!("`{}` is not of the form stage.output{ACROSS}", **text));
    };
    let Some(&step) = index.get(stage) else {
        let near = hint(stage, index.keys().copied());
        return match variant {
            "" => wrong(format!("`{}`: there is no stage `{stage}`{near}", **text)),
            _ => Ok(Source::Across(Vec::new())),
        };
    };
    let outputs = &study.stages[step].1.outputs.0;
    match outputs.iter().position(|(name, _)| name.as_str() == output) {
        Some(output) => Ok(Source::Across(vec![Part { variant: variant.into(), step, output }])),
        None if variant.is_empty() => {
            let near = hint(output, outputs.iter().map(|(name, _)| name.as_str()));
            wrong(format!("stage {stage} has no output `{output}`{near}"))
        }
        None => Ok(Source::Across(Vec::new())),
    }
}

fn source(
    text: &Marked<String>,
    study: &Study,
    index: &HashMap<&str, usize>,
    Folders { root, out }: Folders,
) -> Result<Source> {
    let wrong = |what: String| Err(Error::mistake(&text.mark, what));
    let word =
        |w: &str| !w.is_empty() && w.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let reference = text.split_once('.').filter(|(stage, output)| word(stage) && word(output));
    if let Some((stage, output)) = reference {
        if stage == RESERVED {
            return match output {
                "lineage" => Ok(Source::Lineage),
                _ => wrong(format!("the runner provides `pipeline.lineage` only, not `{}`", **text)),
            };
        }
        if let Some(&i) = index.get(stage) {
            let outputs = &study.stages[i].1.outputs.0;
            return match outputs.iter().position(|(name, _)| name.as_str() == output) {
                Some(o) => Ok(Source::Output(i, o)),
                None => {
                    let near = hint(output, outputs.iter().map(|(name, _)| name.as_str()));
                    wrong(format!("stage {stage} has no output `{output}`{near}"))
                }
            };
        }
    }
    let plain = naming::normal(&root.join(text.as_str()));
    if [out, Path::new(".pipeline")].iter().any(|made| plain.starts_with(root.join(made))) {
        // The same file under two names would be run against its own maker.
        return wrong(format!("{} is made by a run; name the stage's output, as in `stage.output`", **text));
    }
    if root.join(text.as_str()).exists() {
        return Ok(Source::Path(text.as_str().into()));
    }
    match reference {
        Some((stage, _)) => {
            let near = hint(stage, index.keys().copied());
            wrong(format!("`{}` is neither a file nor an output: there is no stage `{stage}`{near}", **text))
        }
        None => {
            let outputs: Vec<String> = study
                .stages
                .iter()
                .flat_map(|(s, stage)| stage.outputs.0.iter().map(move |(o, _)| format!("{}.{}", **s, **o)))
                .collect();
            let near = stage::nearest(text, outputs.iter().map(String::as_str));
            let near = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            wrong(format!("no such file or folder: {}{near}", **text))
        }
    }
}

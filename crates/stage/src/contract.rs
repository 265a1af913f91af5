//! What is checked before any work: that inputs are there, and that nothing but an earlier output of the program is replaced.

use crate::error::{BadInput, bad_input};
use crate::layout::Known;
use crate::place::Place;
use crate::staging::staging;
use crate::state::State;
use crate::{Arguments, Event, Kind, Role, Spec, Values, staged};
use anyhow::{Context, Result};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// A path that the program reads or writes, and what people call it.
struct Named {
    name: String,
    path: PathBuf,
    place: Place,
}

impl Named {
    fn new(name: impl Into<String>, path: &Path) -> Result<Self> {
        Ok(Self { name: name.into(), path: path.into(), place: Place::of(path)? })
    }

    /// As it stands on the command line.
    fn shown(&self) -> String {
        format!("{} {}", self.name, self.path.display())
    }
}

/// Refuses what would make the work read nothing, or lose something of the user's.
///
/// # Errors
/// Bad input that names the argument and the way out.
pub(crate) fn check<A: Arguments>(
    args: &A,
    spec: &Spec,
    values: &Values,
    state: Option<&State>,
    events: Option<&Path>,
) -> Result<()> {
    let inputs = paths(spec, values, Role::Input)?;
    for input in &inputs {
        if !input.path.exists() {
            bad_input!("{}: no such file or folder", input.shown())
        }
    }
    let mut written = paths(spec, values, Role::Output)?;
    let outputs = written.len();
    for output in 0..outputs {
        let Named { name, path, .. } = &written[output];
        let staging = staging(path).map_err(|e| BadInput(format!("{name}: {e}")))?;
        written.push(Named::new(format!("the place where {name} is made,"), &staging)?);
    }
    if let Some(state) = state {
        written.push(Named::new("the state folder", state.path())?);
    }
    if let Some(path) = events {
        written.push(Named::new("PIPELINE_EVENTS", path)?);
    }
    apart(&inputs, &written)?;
    for output in &written[..outputs] {
        staged::recover(&output.path)?;
        if let Some(known) = A::known(output.name.trim_start_matches('-')) {
            replaceable(args, spec, output, &known)?;
        }
    }
    if let Some(path) = events {
        ours(path)?;
    }
    state.map_or(Ok(()), State::check)
}

/// The paths of one role.
fn paths(spec: &Spec, values: &Values, role: Role) -> Result<Vec<Named>> {
    let mut paths = Vec::new();
    for arg in spec.of(role) {
        let text = values.text(&arg.name);
        let texts: Vec<&str> = match &arg.kind {
            Kind::List { .. } => text.into_iter().flat_map(|text| text.split(',')).map(str::trim).collect(),
            _ => text.into_iter().collect(),
        };
        for text in texts.into_iter().filter(|text| !text.is_empty()) {
            paths.push(Named::new(format!("--{}", arg.name), &crate::value::path(text))?);
        }
    }
    Ok(paths)
}

/// Checks that nothing written is, holds or lies in something read, nor in something else that is written.
fn apart(inputs: &[Named], written: &[Named]) -> Result<()> {
    for (i, output) in written.iter().enumerate() {
        let others = inputs.iter().chain(&written[..i]);
        for other in others {
            let how = if output.place.is(&other.place) {
                "is"
            } else if other.place.holds(&output.place) {
                "lies in"
            } else if output.place.holds(&other.place) {
                "holds"
            } else {
                continue;
            };
            bad_input!("{}: {how} {}; name another place for it", output.shown(), other.shown())
        }
    }
    Ok(())
}

/// Checks that what stands at an output may be replaced.
fn replaceable<A>(args: &A, spec: &Spec, output: &Named, known: &Known<A>) -> Result<()> {
    let (path, program) = (&output.path, &spec.name);
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        // A file where a folder should lead to it, a folder that may not be read.
        Err(e) => bad_input!("{}: {e}", output.shown()),
    };
    let refuse = |what: String| -> Result<()> {
        bad_input!("{}: {what}; name another place, or move it away", output.shown())
    };
    if there.is_symlink() {
        let to = fs::read_link(path).unwrap_or_default();
        return refuse(format!("a link, to {}, which is never replaced", to.display()));
    }
    match known {
        Known::Folder(_) if !there.is_dir() => refuse(format!("a file, where {program} makes a folder")),
        Known::Folder(layout) => match layout.foreign(path)? {
            Some(foreign) => refuse(format!("holds {}, which {program} did not make", foreign.display())),
            None => Ok(()),
        },
        Known::File(_) if there.is_dir() => refuse(format!("a folder, where {program} makes a file")),
        Known::File(_) if !there.is_file() => refuse("no file that can be replaced".into()),
        Known::File(ours) if there.len() > 0 && !ours(args, path)? => {
            refuse(format!("a file that {program} did not make"))
        }
        Known::File(_) => Ok(()),
    }
}

/// Checks that lines may be appended to the file that `PIPELINE_EVENTS` names.
fn ours(path: &Path) -> Result<()> {
    // A pipe or a terminal takes lines as they come.
    if !fs::metadata(path).is_ok_and(|there| there.is_file() && there.len() > 0) {
        return Ok(());
    }
    let file = fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let mut line = String::new();
    let read = BufReader::new(file).take(1 << 20).read_line(&mut line);
    if read.is_err() || serde_json::from_str::<Event>(&line).is_err() {
        bad_input!("PIPELINE_EVENTS {}: holds something else than events; name another file", path.display())
    }
    Ok(())
}

#[cfg(test)]
mod tests;

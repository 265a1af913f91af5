//! `pipeline stage`.

use super::output::{print, print_json};
use crate::cli::Global;
use crate::engine;
use crate::error::{Error, Result};
use crate::session::homes::{self, Home, Source};
use crate::stderr;
use crate::text::table;
use serde_json::json;
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use study::graph::Call;
use study::{Mark, describe};

/// Becomes a stage program: its exit code, what it reads and writes and the signals it gets are its own.
///
/// # Errors
/// When there is no such program, or it cannot be started. It does not return otherwise.
pub fn stage(global: &Global, words: &[OsString]) -> Result<()> {
    let Some((name, arguments)) = words.split_first() else { return Ok(()) };
    let homes = homes::homes(build(global)?.map(|build| build.folder));
    let wanted = name.to_string_lossy();
    let program = if wanted.contains('/') { None } else { homes::find(&wanted, &homes) };
    let Some(program) = program else { return Err(unknown(&wanted, &homes)) };
    let source = Command::new(&program).args(arguments).exec();
    Err(engine::Error::Start { what: program.display().to_string(), source }.into())
}

fn unknown(name: &str, homes: &[Home]) -> Error {
    let programs = homes::programs(homes);
    let near =
        study::hint(name, programs.iter().map(|(name, ..)| name.as_str()).filter(|n| !n.contains('.')));
    let looked: Vec<String> = homes.iter().map(|home| home.folder.display().to_string()).collect();
    let looked = if looked.is_empty() { "no folder".into() } else { looked.join(", ") };
    if let Some(alone) = homes::alone(homes) {
        return Error::NoStagePrograms { name: name.into(), alone, looked };
    }
    Error::NoStageProgram { name: name.into(), near, looked }
}

/// Prints the stage programs that are found, and where they are looked for.
pub fn list(global: &Global) -> Result<()> {
    let build = build(global)?;
    let homes = homes::homes(build.as_ref().map(|build| build.folder.clone()));
    // What does not describe itself is no stage program. Libraries are not asked, nor what a build makes for other ends.
    let ours = |name: &String, source| match (&build, source) {
        (Some(build), Source::Build) => build.names.contains(name),
        _ => !name.contains('.'),
    };
    let found = homes::programs(&homes).into_iter().filter(|(name, _, source)| ours(name, *source));
    let mark = Mark { file: "--list".into(), line: 0 };
    let found = found.filter_map(|(name, path, source)| {
        let about = match describe::ask(&path, &mark) {
            Ok(spec) => spec.about,
            Err(study::Error::NoLibrary { library, way, .. }) => {
                format!("cannot be started, for {library} is not there; {way}")
            }
            Err(_) => return None,
        };
        Some((name, about, path, source))
    });
    let found: Vec<(String, String, PathBuf, Source)> = found.collect();
    if global.json {
        let programs = found.iter().map(|(name, about, path, source)| {
            json!({ "name": name, "about": about, "path": path, "from": source.name() })
        });
        let folders = homes.iter().map(|home| json!({ "path": home.folder, "from": home.source.name() }));
        return print_json(&json!({
            "programs": programs.collect::<Vec<_>>(), "folders": folders.collect::<Vec<_>>(),
        }));
    }
    let rows = found.iter().map(|(name, about, ..)| vec![name.clone(), first_sentence(about).to_string()]);
    let mut text = table(&rows.collect::<Vec<_>>());
    if found.is_empty() {
        text.push_str("no stage programs were found\n");
        text.extend(homes::alone(&homes).map(|alone| format!("{alone}\n")));
    }
    text.push_str("\nlooked for in this order:\n");
    let rows = homes.iter().map(|home| {
        let missing = if home.folder.is_dir() { "" } else { " (not there)" };
        vec![format!("  {}", home.source.name()), format!("{}{missing}", home.folder.display())]
    });
    text.push_str(&table(&rows.collect::<Vec<_>>()));
    if homes.is_empty() {
        text.push_str(&format!("  nowhere: set {} to a folder of them\n", homes::VARIABLE));
    }
    print(&text)
}

/// The stage programs of a study that builds its own.
struct Build {
    folder: PathBuf,
    /// Those that its stages name.
    names: HashSet<String>,
}

/// That of the study that one stands in, or that was named.
fn build(global: &Global) -> Result<Option<Build>> {
    let of = |file: &Path| -> study::Result<Option<Build>> {
        let graph = study::load(&study::Choice { file: file.into(), ..global.choice() })?;
        let names = graph.steps.iter().filter_map(|step| match &step.call {
            Call::Run(name) => Some(name.value.clone()),
            Call::Command(..) => None,
        });
        let names = names.collect();
        Ok(graph.build.map(|build| Build { folder: graph.root.join(build.programs), names }))
    };
    if global.named() {
        return Ok(of(&global.file)?);
    }
    let found = global.nearest().and_then(|file| if file.is_file() { of(&file) } else { Ok(None) });
    // A program can be called without a study, so a study that cannot be read is none.
    Ok(found.unwrap_or_else(|e| {
        stderr::line(format_args!("warning: {e}; looking for programs without this study"));
        None
    }))
}

fn first_sentence(about: &str) -> &str {
    let ends = [". ", ".\n"].iter().filter_map(|end| about.find(end));
    ends.min().map_or(about.trim_end_matches('.'), |end| &about[..end])
}

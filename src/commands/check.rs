//! `pipeline check`.

use super::output::{print, print_json};
use crate::cli::Global;
use crate::engine::batch;
use crate::error::Result;
use crate::run::Machine;
use crate::session::Session;
use crate::stderr;
use crate::text::{counted, safe};
use serde_json::json;
use study::file::EngineName;
use study::graph::Step;

/// Checks the study file, and the stages' parameters as far as their programs are there to ask.
pub fn check(global: &Global) -> Result<()> {
    let mut session = Session::open(&global.options(&[]))?;
    session.find_built_programs()?;
    let unknown: Vec<&str> = session
        .graph
        .steps
        .iter()
        .zip(&session.programs)
        .filter(|(_, program)| program.is_none())
        .map(|(step, _)| step.stage.as_str())
        .collect();
    let all: Vec<usize> = (0..session.graph.steps.len()).collect();
    warn(&session, &all);
    let sent: Vec<_> = session.graph.steps.iter().filter_map(|step| sent(&session, step)).collect();
    if global.json {
        let sent: Vec<_> = sent.iter().map(|(id, text)| json!({ "stage": id, "submit": text })).collect();
        return print_json(&json!({ "study": session.graph.name, "not-built": unknown, "sent": sent }));
    }
    let stages = counted(session.graph.steps.len(), "stage");
    let mut text = format!("{}: {stages}, no mistake found\n", global.file.display());
    if !unknown.is_empty() {
        text.push_str(&format!(
            "not built yet, so their parameters were not checked: {}\n",
            unknown.join(", ")
        ));
    }
    for (id, sent) in sent {
        text.push_str(&format!("{id} would be submitted by\n"));
        text.extend(sent.trim_end().lines().map(|line| format!("    {line}\n")));
    }
    print(&text)
}

/// What a batch system would be told of a step.
fn sent(session: &Session, step: &Step) -> Option<(String, String)> {
    let sent = batch::shown(step, &session.graph.name, &session.graph.root)?;
    Some((step.id.clone(), safe(&sent)))
}

/// Says what may turn out to be wrong with these steps: which of them this machine has not the GPUs for, and what their programs
/// warn of. They may be meant for another machine.
pub fn warn(session: &Session, steps: &[usize]) {
    let machine = Machine::whole(None, false);
    for step in steps {
        if let Err(e) = machine.check(&session.graph.steps[*step]) {
            stderr::line(format_args!("warning: {e}"));
        }
        warn_of_arguments(session, *step);
    }
}

/// Says what the program of a step that runs here warns of.
pub fn warn_of_arguments(session: &Session, step: usize) {
    let here = session.graph.steps[step].engine == EngineName::Local;
    for (_, warning) in session.warnings.iter().filter(|(of, _)| here && *of == step) {
        stderr::line(format_args!("warning: {warning}"));
    }
}

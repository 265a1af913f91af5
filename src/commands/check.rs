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
    warn_of_room(&session, &all);
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

/// Says which of these steps this machine has not the GPUs for. They may be meant for another.
pub fn warn_of_room(session: &Session, steps: &[usize]) {
    let machine = Machine::whole(None, false);
    for step in steps {
        if let Err(e) = machine.check(&session.graph.steps[*step]) {
            stderr::line(format_args!("warning: {e}"));
        }
    }
}

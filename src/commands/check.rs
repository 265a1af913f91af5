//! `pipeline check`.

use super::output::{print, print_json};
use crate::cli::Global;
use crate::error::Result;
use crate::run::Machine;
use crate::session::Session;
use crate::stderr;
use crate::text::counted;
use serde_json::json;

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
    if global.json {
        return print_json(&json!({ "study": session.graph.name, "not-built": unknown }));
    }
    let stages = counted(session.graph.steps.len(), "stage");
    let mut text = format!("{}: {stages}, no mistake found\n", global.file.display());
    if !unknown.is_empty() {
        text.push_str(&format!(
            "not built yet, so their parameters were not checked: {}\n",
            unknown.join(", ")
        ));
    }
    print(&text)
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

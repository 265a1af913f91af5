//! `pipeline why STAGE`.

use super::{print, print_json};
use crate::cli::Global;
use crate::error::Result;
use crate::plan::State;
use crate::session::Session;
use serde_json::json;

/// Says how a stage differs from its last success.
pub fn why(global: &Global, stage: &str) -> Result<()> {
    let mut session = Session::open(&global.options(&[stage.to_string()]))?;
    session.graph.step(stage)?;
    let planned = crate::plan::plan(&mut session)?;
    session.store.stats.save();
    let Some(planned) = planned.into_iter().find(|p| p.stage == stage) else { return Ok(()) };
    let last = session.store.last(stage);
    if global.json {
        return print_json(&json!({ "planned": planned, "last": last }));
    }
    let text = match &planned.state {
        State::Cached => "nothing changed since its last success: cached\n".into(),
        State::Replaced => "--with stands in for it\n".into(),
        State::ToRun { reasons } => reasons.iter().map(|r| format!("{r}\n")).collect::<String>(),
        State::Waiting { on } => format!("it is decided when these are done: {}\n", on.join(", ")),
    };
    print(&format!("{stage}\n{}", text.lines().map(|l| format!("  {l}\n")).collect::<String>()))
}

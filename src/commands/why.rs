//! `pipeline why STAGE`.

use super::output::{print, print_json};
use crate::cache::results;
use crate::cli::Global;
use crate::error::Result;
use crate::session::Session;
use crate::session::plan::State;
use crate::text::with;

/// Says how a stage differs from its last success.
pub fn why(global: &Global, stage: &str) -> Result<()> {
    let mut session = Session::open(&global.options(&[stage.to_string()]))?;
    let planned = crate::session::plan::plan(&mut session)?;
    let planned: Vec<_> = planned.into_iter().filter(|p| p.step == stage || p.stage == stage).collect();
    if global.json {
        return print_json(&planned);
    }
    for planned in &planned {
        let lines: Vec<String> = match &planned.state {
            State::Cached => {
                let made = planned.key.and_then(|key| results::all(&session.store, &key).into_iter().next());
                let ran = made.and_then(|made| made.ran).filter(|ran| !ran.reported.is_empty());
                let with =
                    ran.map(|ran| format!("it ran on {} with {}", ran.machine.host, with(&ran.reported)));
                let cached = "nothing changed since its last success: cached".to_string();
                [cached].into_iter().chain(with).collect()
            }
            State::Replaced => vec!["--with stands in for it".into()],
            State::ToFetch { .. } => vec!["the shared cache has it".into()],
            State::ToRun { reasons } => reasons.clone(),
            State::Waiting { on } => vec![format!("it is decided when these are done: {}", on.join(", "))],
        };
        print(&format!(
            "{}\n{}",
            planned.stage,
            lines.iter().map(|l| format!("  {l}\n")).collect::<String>()
        ))?;
    }
    Ok(())
}

//! `pipeline plan`.

use super::{print, print_json, table};
use crate::cli::Global;
use crate::error::Result;
use crate::plan::State;
use crate::run::screen::duration;
use crate::session::Session;

/// Says what a run would do, and why.
pub fn plan(global: &Global, stages: &[String]) -> Result<()> {
    let mut session = Session::open(&global.options(stages))?;
    let planned = crate::plan::plan(&mut session)?;
    session.store.stats.save();
    if global.json {
        return print_json(&planned);
    }
    let rows: Vec<Vec<String>> = planned
        .iter()
        .map(|p| {
            let (state, why) = match &p.state {
                State::Cached => ("cached", String::new()),
                State::Replaced => ("replaced", "--with stands in for it".into()),
                State::ToFetch { bytes } => ("to fetch", format!("{} from the cache", super::size(*bytes))),
                State::ToRun { reasons } => ("to run", reasons.join(", ")),
                State::Waiting { on } => ("waiting", format!("on {}", on.join(", "))),
            };
            let last = p.last_seconds.map(|s| format!("last {}", duration(s))).unwrap_or_default();
            vec![p.stage.clone(), state.into(), last, why]
        })
        .collect();
    print(&table(&rows))
}

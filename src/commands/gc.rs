//! `pipeline gc`.

use super::output::{print, print_json};
use crate::cache::sweep::{self, Limits, Plan, weight};
use crate::cli::{GcLimits, Global};
use crate::engine::batch;
use crate::error::{Error, Result};
use crate::text::size;
use serde_json::json;
use store::{Area, Store, link, lock};
use study::Choice;

/// Removes what no stage of the study and its variants needs and no limit keeps.
pub fn gc(global: &Global, limits: &GcLimits) -> Result<()> {
    let everything = Choice { variants: vec!["*".into()], ..global.choice() };
    let own = study::load(&global.choice())?;
    let variants = study::load(&everything).map(|g| g.steps).unwrap_or_default();
    let store = Store::look(&own.root, &own.name)?;
    if !store.is_there() {
        let nothing = json!({ "removed": 0, "freed": 0, "kept": 0, "dry-run": limits.dry_run });
        return match global.json {
            true => print_json(&nothing),
            false => print(&format!("there is no store at {}: nothing to remove\n", store.path.display())),
        };
    }
    store.writable()?;
    let Some(_held) = lock::attempt(&store.lock_of_store(), false)? else {
        return Err(Error::Busy);
    };
    let keep = Limits { max_size: limits.max_size.0, grace: limits.grace.0, logs: limits.logs.0 };
    let steps: Vec<_> = own.steps.iter().chain(&variants).collect();
    // A job on a cluster outlives its runner, and writes there.
    let busy = batch::held_by_jobs(&store.list(Area::Attempts));
    let Plan { doomed, kept } = sweep::plan(&store, &steps, &keep, |folder| busy.contains(folder))?;
    let mut freed = 0;
    for path in &doomed {
        freed += weight(path);
        if !limits.dry_run {
            link::remove(path)?;
        }
    }
    if global.json {
        let count = doomed.len();
        return print_json(
            &json!({ "removed": count, "freed": freed, "kept": kept, "dry-run": limits.dry_run }),
        );
    }
    let verb = if limits.dry_run { "would remove" } else { "removed" };
    print(&format!("{verb} {} files and folders, {}; {} are kept\n", doomed.len(), size(freed), size(kept)))
}

//! `pipeline log STAGE`.

use super::output::{print, print_json};
use crate::cli::Global;
use crate::error::{Error, Result};
use serde_json::json;
use store::IoContext;
use store::Store;
use study::hint;

/// Prints the newest log of a stage.
pub fn log(global: &Global, stage: &str) -> Result<()> {
    let graph = study::load(&global.choice())?;
    let ids = || graph.steps.iter().map(|s| s.id.as_str());
    let stages = || graph.steps.iter().map(|s| s.stage.as_str()).chain(["build"]);
    // Of a stage with several parts, each has its log: `score[0007]`.
    let whole = stage.split('[').next().unwrap_or_default();
    if !stages().chain(ids()).any(|s| s == whole) {
        return Err(study::Error::NoStage { name: stage.into(), near: hint(stage, stages()) }.into());
    }
    let store = Store::open(&graph.root, &graph.name)?;
    let Some(path) = store.newest_log(stage) else {
        return Err(Error::NoLog(stage.into()));
    };
    if global.json {
        return print_json(&json!({ "stage": stage, "log": path }));
    }
    let text = std::fs::read(&path).at("reading", &path)?;
    crate::stderr::line(path.display());
    print(&String::from_utf8_lossy(&text))
}

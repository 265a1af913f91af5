//! `pipeline log STAGE`.

use super::output::{print, print_json};
use crate::cache::places::Places;
use crate::cli::Global;
use crate::engine::ranks;
use crate::error::{Error, Result};
use crate::run::logs::{self, Counts};
use crate::ui::log::said;
use serde_json::json;
use store::IoContext;
use store::Store;
use study::hint;

/// Prints the log of a stage that counts, or of one of its processes: what it wrote or, where that is nothing, what it reported.
pub fn log(global: &Global, stage: &str, rank: u32) -> Result<()> {
    let mut choice = global.choice();
    if stage.contains('@') && choice.variants.is_empty() {
        // The name that a run of the variant prints.
        choice.variants.push("*".into());
    }
    let graph = study::load_for(&choice, &[stage.to_string()])?;
    let ids = || graph.steps.iter().map(|s| s.id.as_str());
    let stages = || graph.steps.iter().map(|s| s.stage.as_str()).chain(["build"]);
    // Of a stage with several parts, each has its log: `score[0007]`.
    let whole = stage.split('[').next().unwrap_or_default();
    if !stages().chain(ids()).any(|s| s == whole) {
        return Err(study::Error::NoStage { name: stage.into(), near: hint(stage, stages()) }.into());
    }
    let store = Store::look(&graph.root, &graph.name)?;
    // A stage of a variant that differs is called otherwise: `train@switch-s`.
    let part = &stage[whole.len()..];
    let exact = graph.steps.iter().filter(|s| s.id == whole && stage.contains('@'));
    let labels: Vec<String> = match exact.map(|s| s.id.clone()).next() {
        Some(id) => vec![id],
        None => {
            graph.steps.iter().filter(|s| s.id == whole || s.stage == whole).map(|s| s.id.clone()).collect()
        }
    };
    let labels = if labels.is_empty() { vec![whole.to_string()] } else { labels };
    let counts = labels.iter().filter_map(|label| logs::find(&store, &format!("{label}{part}")));
    let Some(Counts { run, log, about }) = counts.max_by(|a, b| a.run.cmp(&b.run)) else {
        return Err(Error::NoLog(stage.into()));
    };
    let Some(newest) = log else {
        return Err(Error::LogElsewhere { stage: stage.into(), about: about.unwrap_or_default() });
    };
    let path = ranks::of_rank(&newest, rank);
    if !path.is_file() {
        let last = (1..rank).take_while(|rank| ranks::of_rank(&newest, *rank).is_file()).last().unwrap_or(0);
        return Err(Error::NoRank { stage: stage.into(), rank, last });
    }
    if global.json {
        return print_json(&json!({ "stage": stage, "log": path, "run": run, "about": about }));
    }
    let text = std::fs::read(&path).at("reading", &path)?;
    crate::stderr::line(path.display());
    about.iter().for_each(crate::stderr::line);
    let places = Places::beside(&path);
    // A bar is written over and over in one line; here each time has its own.
    let text = places.shown(&String::from_utf8_lossy(&text)).replace("\r\n", "\n").replace('\r', "\n");
    if !text.trim().is_empty() {
        return print(&text);
    }
    // A program that reports to the runner writes nothing else.
    let events = std::fs::read(ranks::of_rank(&newest.with_extension("events"), rank)).unwrap_or_default();
    let reported = places.shown(&said(&String::from_utf8_lossy(&events)));
    if reported.is_empty() {
        crate::stderr::line("it wrote nothing");
    }
    print(&reported)
}

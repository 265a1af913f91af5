//! Writes what a study found, as Markdown and as one HTML file that needs nothing else.
//!
//! Each input is one section; what is not given is left out. The same inputs give the same bytes.

mod chart;
mod compare;
mod document;
mod gating;
mod html;
mod lineage;
mod log;
mod markdown;
mod outputs;
mod raster;
mod samples;
mod scores;
mod svg;
mod tables;

use anyhow::{Context as _, Result};
use document::{Block, Document, Section, Tile, grouped};
use models::analysis::Gating;
use models::diffusion::Curve;
use models::interchange::{self, Hints};
use stage::{Context, Staged, bad_input};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tch::Device;

stage::arguments! {
    /// Write what a study found as Markdown and as one HTML file that needs nothing else.
    ///
    /// Every input is optional and is one section of the report; at least one is needed.
    pub struct Args: "report" {
        /// Scores: the JSON that evaluate writes, or a folder of them, one for each checkpoint.
        input scores: Option<PathBuf>;
        /// Training log, the JSON lines that train writes.
        input log: Option<PathBuf>;
        /// Folder of samples, or an `.npz` with `arr_0` and `arr_1`.
        input samples: Option<PathBuf>;
        /// Checkpoints that train wrote: a folder, whose last step is taken, or one file; or the reference's `.pt`.
        input checkpoints: Option<PathBuf>;
        /// What came before, as the runner writes it for `pipeline.lineage`.
        input lineage: Option<PathBuf>;
        /// Runs to compare: a folder with VARIANT/evaluate/scores and VARIANT/train/log, as a study with variants leaves it.
        input runs: Option<PathBuf>;
        /// Numbers that were published for these variants, the JSON in `pipelines/published/`.
        input published: Option<PathBuf>;
        /// Title of the report.
        param title: String = "Report".into();
        /// Classes in the grid of samples at most, evenly spread over those there are.
        param classes: usize = 10, in 1..=100, unit "rows";
        /// Samples of each class in the grid.
        param per_class: usize = 10, in 1..=50, unit "images";
        /// Window of the smooth loss curves, a running median.
        param smoothing: f64 = 0.05, in 0.0..=1.0, unit "share of the log";
        /// Timesteps whose paths through the experts are drawn.
        param timesteps: Vec<f64> = vec![0.25, 0.5, 0.75, 1.0], in 0.0..=1.0, unit "share of all";
        /// Noise schedule that a foreign `.pt` was trained with; our checkpoints say it themselves.
        param schedule: Option<Curve>;
        /// Attention heads of a foreign `.pt` whose width and blocks are no preset's.
        param heads: Option<i64>, in 1..;
        /// Folder with `report.md`, `report.html` and `figures/`.
        output report: PathBuf, known outputs::KNOWN;
    }
}

/// A report under construction: the text, and the files beside it.
#[derive(Default)]
struct Work {
    document: Document,
    files: Vec<(String, Vec<u8>)>,
}

/// Reads the inputs and writes the report.
///
/// # Errors
/// Bad input when no input is given, or one cannot be understood; else when the output cannot be written.
pub fn report(args: &Args, context: &Context) -> Result<()> {
    let mut work = Work::default();
    work.document.title = args.title.clone();
    let given = [&args.scores, &args.log, &args.samples, &args.checkpoints, &args.lineage, &args.runs];
    let total = given.iter().filter(|p| p.is_some()).count();
    if total == 0 {
        bad_input!(
            "nothing to report: give at least one of --scores, --log, --samples, --checkpoints, --lineage, --runs"
        )
    }
    let mut done = 0;
    let mut step = || {
        context.progress(done, total, "sections");
        done += 1;
        context.check_stop()
    };
    if args.published.is_some() && args.runs.is_none() {
        bad_input!("--published without --runs: there is nothing to compare the published numbers with")
    }
    if let Some(path) = &args.runs {
        step()?;
        let compared = compare::compare(path, args.published.as_deref(), args.smoothing)?;
        work.document.sections.extend(compared.sections);
        work.document.lead = compared.lead;
    }
    if let Some(path) = &args.scores {
        step()?;
        let (section, tiles) = scores::section(&scores::Scored::read(path)?);
        work.document.sections.push(section);
        work.document.tiles = tiles;
    }
    if let Some(path) = &args.samples {
        step()?;
        let (section, png) = samples::Grid::read(path, args.classes, args.per_class)?.section()?;
        work.document.sections.push(section);
        work.files.push(("figures/samples.png".into(), png));
    }
    if let Some(path) = &args.log {
        step()?;
        let log = log::Log::read(path)?;
        work.document.sections.push(log::section(&log, args.smoothing));
        work.document.tiles.extend(steps_tile(&log));
    }
    if let Some(path) = &args.checkpoints {
        step()?;
        checkpoint(path, args, &mut work)?;
    }
    if let Some(path) = &args.lineage {
        step()?;
        let lineage = lineage::Lineage::read(path)?;
        work.document.sections.extend([lineage.settings(), lineage.provenance(), lineage.reproduce()]);
    }
    if work.document.lead.is_empty() {
        work.document.lead = lead(args);
    }
    write(&work, &args.report)?;
    context.progress(total, total, "sections");
    context.message(&format!("report in {}", args.report.join("report.html").display()));
    Ok(())
}

/// The network's own section, and its gates' where it has some.
fn checkpoint(path: &Path, args: &Args, work: &mut Work) -> Result<()> {
    let hints = Hints { schedule: args.schedule, heads: args.heads };
    let mut checkpoint = interchange::read(path, &hints)?;
    let about = checkpoint.about.clone();
    // The average that samples are drawn from by default.
    let decay = about.ema_decays.first().copied();
    let network = checkpoint.network(decay, Device::Cpu)?;
    if let Some(gating) = Gating::of(&network) {
        let (section, files) = gating::section(&gating, &args.timesteps)?;
        work.document.sections.push(section);
        work.files.extend(files);
    }
    let mut section = Section::new("Network");
    let step = grouped(about.step as i64);
    let caption = format!("The network, as its checkpoint of step {step} describes it.");
    let mut table = lineage::table(&caption, &serde_json::to_value(&about.network)?);
    table.row(["`schedule`".into(), about.schedule.to_string()]);
    let values: i64 = network.parameters().iter().map(|p| p.tensor.numel() as i64).sum();
    table.row(["parameters".into(), grouped(values)]);
    if let Some(decay) = decay {
        table.row(["weights shown".into(), format!("moving average, decay {decay}")]);
    }
    section.blocks.push(Block::Table(table));
    work.document.sections.push(section);
    Ok(())
}

fn steps_tile(log: &log::Log) -> Option<Tile> {
    let last = log.series.values().filter_map(|s| s.last()).map(|p| p.0).reduce(f64::max)?;
    Some(Tile { name: "Training".into(), value: grouped(last as i64), note: "steps".into() })
}

/// What the report rests on, in a sentence.
fn lead(args: &Args) -> String {
    let given = [
        ("scores", args.scores.is_some()),
        ("samples", args.samples.is_some()),
        ("training log", args.log.is_some()),
        ("checkpoint", args.checkpoints.is_some()),
        ("lineage", args.lineage.is_some()),
    ];
    let names: Vec<&str> = given.iter().filter(|g| g.1).map(|g| g.0).collect();
    match names.as_slice() {
        [most @ .., last] if !most.is_empty() => {
            format!("From the {} and {last} of one run.", most.join(", "))
        }
        names => format!("From the {} of one run.", names.concat()),
    }
}

fn write(work: &Work, target: &Path) -> Result<()> {
    let mut files = BTreeMap::from([("report.md".into(), markdown::render(&work.document).into_bytes())]);
    for block in work.document.sections.iter().flat_map(|s| &s.blocks) {
        if let Block::Figure(figure) = block {
            let name = format!("{}/{}.svg", markdown::FIGURES, figure.name);
            files.insert(name, svg::standalone(&figure.svg).into_bytes());
        }
    }
    files.extend(work.files.iter().cloned());
    let page = outputs::marked(&html::render(&work.document), &files)?;
    files.insert("report.html".into(), page.into_bytes());
    let staged = Staged::folder(target, &outputs::REPORT)?;
    for (name, bytes) in &files {
        let path = staged.path().join(name);
        let context = || format!("writing {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(context)?;
        }
        fs::write(&path, bytes).with_context(context)?;
    }
    staged.commit()
}

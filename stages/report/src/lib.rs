//! Writes what a study found, as Markdown and as one HTML file that needs nothing else.
//!
//! Each input is one section; what is not given is left out. The same inputs give the same bytes, but for the table that says
//! where the report was written.

mod agreement;
mod compare;
mod document;
mod figure;
mod gating;
mod html;
mod log;
mod markdown;
mod network;
mod outputs;
mod provenance;
mod samples;
mod scores;
mod tables;

use anyhow::{Context as _, Result};
use compare::runs::Folders;
use compare::{Choices, Comparison};
use document::{Block, Document, Figure, Tile, grouped};
use figure::render::render;
use markdown::FIGURES;
use models::checkpoint::CheckpointMetadata;
use models::diffusion::NoiseSchedule;
use models::interchange::Hints;
use provenance::{Here, Lineage};
use stage::{Context, Known, Staged, Value as _, bad_input};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// How an earlier report is known.
const KNOWN: Known<Args> = Known::Folder(outputs::REPORT);

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
        /// Variants to compare: a folder with one entry for each, named for it: its scores, or a folder of them by checkpoint.
        /// `NAME-seed-1`, `NAME-seed-2` are seeds of one variant, as are `seed-1`, `seed-2` in a folder NAME.
        input variant_scores: Option<PathBuf>;
        /// Logs of the variants, by name.
        input variant_logs: Option<PathBuf>;
        /// Checkpoints of the variants, by name; they say how large a network is.
        input variant_checkpoints: Option<PathBuf>;
        /// Samples of the variants, by name, to stand side by side: sampled with the same seed and labels, so that the same places
        /// are the same class and begin with the same noise.
        input variant_samples: Option<PathBuf>;
        /// Runs to compare: a folder with VARIANT/evaluate/scores, VARIANT/train/log and VARIANT/train/checkpoints, as a study with
        /// variants leaves it.
        input runs: Option<PathBuf>;
        /// Numbers that were published for these variants, the JSON in `pipelines/published/`.
        input published: Option<PathBuf>;
        /// Title of the report.
        param title: String = "Report".into();
        /// Draw the gating maps of the variants side by side, each above its prior.
        param gating_maps: bool = false;
        /// Classes in the grid of samples at most, evenly spread over those there are.
        param classes: usize = 10, in 1..=100, unit "rows";
        /// Samples of each class in the grid.
        param per_class: usize = 10, in 1..=50, unit "images";
        /// Window of the smooth loss curves, a running median.
        param smoothing: f64 = 0.05, in 0.0..=1.0, unit "share of the log";
        /// Timesteps whose paths through the experts are drawn.
        param timesteps: Vec<f64> = vec![0.25, 0.5, 0.75, 1.0], in 0.0..=1.0, unit "share of all";
        /// Noise schedule that a foreign `.pt` was trained with; our checkpoints say it themselves.
        param schedule: Option<NoiseSchedule>;
        /// Attention heads of a foreign `.pt` whose width and blocks are no preset's.
        param heads: Option<i64>, in 1..;
        /// Say on which day and machine, with which libtorch and at which commit of the working folder the report was written;
        /// without it the same inputs give the same bytes anywhere.
        param place: bool = true;
        /// Folder with `report.md`, `report.html` and `figures/`; of a comparison also `comparison.md`, `.html`, `.tex` and `.csv`.
        output report: PathBuf, known KNOWN;
    }
}

/// A report under construction: the text, and the files beside it.
#[derive(Default)]
struct Work {
    document: Document,
    /// Figures that are files only.
    pictures: Vec<Figure>,
    files: Vec<(String, Vec<u8>)>,
}

/// Reads the inputs and writes the report.
///
/// # Errors
/// Bad input when no input is given, or one cannot be understood; else when the output cannot be written.
pub fn report(args: &Args, context: &Context) -> Result<()> {
    // Before a checkpoint asks libtorch for anything.
    let here = args.place.then(Here::look);
    let mut work = Work::default();
    work.document.title = args.title.clone();
    let comparing = comparing(args);
    let total = parts(args)?;
    let mut done = 0;
    let mut step = || {
        context.progress(done, total, "sections");
        done += 1;
        context.check_stop()
    };
    let lineage = args.lineage.as_deref().map(Lineage::read).transpose()?;
    if comparing {
        step()?;
        let compared = compared(args)?;
        work.document.sections.extend(compared.sections);
        work.document.lead = compared.lead;
        work.pictures.extend(compared.picture);
        work.files.extend(compared.files);
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
        work.files.push((format!("{FIGURES}/samples-grid.png"), png));
    }
    // The log's section comes first, but what the checkpoint says of the training explains it.
    let network = args.checkpoints.as_deref().map(|path| {
        step()?;
        network::shown(path, &hints(args), &args.timesteps)
    });
    let network = network.transpose()?;
    if let Some(path) = &args.log {
        step()?;
        let log = log::Log::read(path)?;
        let known = known(network.as_ref().map(|n| &n.about), lineage.as_ref());
        let mut section = log::section(&log, args.smoothing, &known);
        section.blocks.extend(agreement::figure(&log).map(Block::Figure));
        work.document.sections.push(section);
        work.document.tiles.extend(steps_tile(&log));
    }
    if let Some(network) = network {
        work.document.sections.extend(network.sections);
        work.files.extend(network.files);
    }
    work.document.sections.extend(provenance::run(lineage.as_ref(), here.as_ref()));
    if let Some(lineage) = &lineage {
        step()?;
        let programs = here.as_ref().and_then(|_| provenance::programs());
        let reproduce = provenance::reproduce(lineage, programs.as_deref());
        work.document.sections.extend([lineage.settings(), lineage.provenance(), reproduce]);
    }
    if work.document.lead.is_empty() {
        work.document.lead = lead(args);
    }
    distinct(&mut work.document);
    write(&work, &args.report)?;
    context.progress(total, total, "sections");
    context.message(&format!("report in {}", args.report.join("report.html").display()));
    Ok(())
}

/// Whether something of several variants is given.
fn comparing(args: &Args) -> bool {
    let Args { runs, variant_scores, variant_logs, variant_checkpoints, variant_samples, .. } = args;
    [runs, variant_scores, variant_logs, variant_checkpoints, variant_samples].iter().any(|p| p.is_some())
}

/// How many parts the report will have.
///
/// # Errors
/// Bad input where it would have none, or is asked for what needs variants and given none.
fn parts(args: &Args) -> Result<usize> {
    let comparing = comparing(args);
    let given = [&args.scores, &args.log, &args.samples, &args.checkpoints, &args.lineage];
    let parts = given.iter().filter(|p| p.is_some()).count() + usize::from(comparing);
    if parts == 0 {
        bad_input!(
            "nothing to report: give at least one of --scores, --log, --samples, --checkpoints, --lineage, --variant-scores, --runs"
        )
    }
    if args.gating_maps && !comparing {
        bad_input!(
            "--gating-maps without --variant-checkpoints or --runs: there are no networks whose maps could stand side by side"
        )
    }
    if args.published.is_some() && !comparing {
        bad_input!(
            "--published without --variant-scores or --runs: there is nothing to compare the published numbers with"
        )
    }
    Ok(parts)
}

/// The variants beside one another.
fn compared(args: &Args) -> Result<Comparison> {
    let folders = Folders {
        runs: args.runs.as_deref(),
        scores: args.variant_scores.as_deref(),
        logs: args.variant_logs.as_deref(),
        checkpoints: args.variant_checkpoints.as_deref(),
        samples: args.variant_samples.as_deref(),
    };
    let choices = Choices {
        title: &args.title,
        smoothing: args.smoothing,
        gating_maps: args.gating_maps,
        hints: hints(args),
        classes: args.classes,
        per_class: args.per_class,
    };
    compare::compare(&folders, args.published.as_deref(), &choices)
}

/// What is said of foreign checkpoints.
fn hints(args: &Args) -> Hints {
    Hints { schedule: args.schedule, heads: args.heads, ..Hints::default() }
}

/// What the checkpoint, or else the lineage, says of the training behind a log.
fn known(about: Option<&CheckpointMetadata>, lineage: Option<&Lineage>) -> log::Known {
    let param = |name: &str| lineage?.param("train", name);
    let batch = about.and_then(|a| a.training.get("batch-size")?.as_f64());
    log::Known {
        schedule: about.map(|a| a.schedule).or_else(|| NoiseSchedule::parse(param("schedule")?).ok()),
        batch_size: batch.or_else(|| param("batch-size")?.parse().ok()),
    }
}

/// Gives every figure a file name of its own.
fn distinct(document: &mut Document) {
    let mut seen = BTreeSet::new();
    for block in document.sections.iter_mut().flat_map(|s| &mut s.blocks) {
        if let Block::Figure(figure) = block {
            let name = figure.name.clone();
            let mut number = 2;
            while !seen.insert(figure.name.clone()) {
                figure.name = format!("{name}-{number}");
                number += 1;
            }
        }
    }
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
        [most @ .., last] if !most.is_empty() => format!("From the {} and {last}.", most.join(", ")),
        names => format!("From the {}.", names.concat()),
    }
}

fn write(work: &Work, target: &Path) -> Result<()> {
    let mut files = BTreeMap::from([("report.md".into(), markdown::render(&work.document).into_bytes())]);
    let shown = work.document.sections.iter().flat_map(|s| &s.blocks).filter_map(|block| match block {
        Block::Figure(figure) => Some(figure),
        _ => None,
    });
    for figure in shown.chain(&work.pictures) {
        let drawn = render(&figure.svg, &figure.alt).with_context(|| format!("drawing {}", figure.name))?;
        let name = |ending: &str| format!("{FIGURES}/{}.{ending}", figure.name);
        files.insert(name("svg"), drawn.svg.into_bytes());
        files.insert(name("png"), drawn.png);
        files.insert(name("pdf"), drawn.pdf);
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

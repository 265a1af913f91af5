//! Several runs beside each other, and beside the numbers that the paper published.

use crate::chart::{Panel, panels};
use crate::document::{Block, Document, Figure, Section, Table, code, number};
use crate::log::{Log, smooth};
use crate::scores::{Scored, metric};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use stage::{BadInputExt, bad_input};
use std::collections::BTreeMap;
use std::path::Path;

/// A table or figure of the paper.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// What it shows, under which settings.
    pub title: String,
    /// Where its numbers were read.
    pub source: String,
    /// What to know before comparing.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// A row of such a table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The variant of the study that is this row; none for a row that no program here can compute.
    pub variant: Option<String>,
    /// Its name in the paper.
    pub name: String,
    /// The line it belongs to in a figure.
    #[serde(default)]
    pub line: String,
    /// Numbers by name: `fid`, `fid_10k`, `inception_score`, `precision`, `recall`, `params` (millions), `gmacs`.
    #[serde(default)]
    pub published: Map<String, Json>,
}

/// A run: the scores of a variant and its log.
struct Run {
    scored: Scored,
    log: Option<Log>,
}

/// Columns: key, heading, whether a run measures it.
const COLUMNS: [(&str, &str, bool); 8] = [
    ("params", "Parameters, millions", false),
    ("gmacs", "GMACs", false),
    ("fid", "FID", true),
    ("fid_10k", "FID-10K", true),
    ("sfid", "sFID", true),
    ("inception_score", "IS", true),
    ("precision", "Precision", true),
    ("recall", "Recall", true),
];

/// Reads `runs`, a folder with one folder for each variant as the runner leaves it, and the published numbers, and
/// compares them.
///
/// # Errors
/// Bad input when one of them cannot be read, or no run has scores.
pub fn compare(runs: &Path, published: Option<&Path>, window: f64) -> Result<Document> {
    let published: Published = match published {
        Some(path) => stage::read_json(path)?,
        None => Published::default(),
    };
    let runs = read(runs)?;
    let mut document = Document {
        lead: if published.title.is_empty() {
            format!("{} runs beside each other.", runs.len())
        } else {
            published.title.clone()
        },
        ..Document::default()
    };
    let rows = rows(&runs, published.rows);
    document.sections.push(table(&rows, &published.source, &published.notes));
    document.sections.extend(cost(&rows));
    document.sections.extend(convergence(&rows));
    document.sections.extend(training(&rows, window));
    Ok(document)
}

/// The variants in a folder, by name.
fn read(folder: &Path) -> Result<BTreeMap<String, Run>> {
    let context = || format!("reading {}", folder.display());
    let mut runs = BTreeMap::new();
    for entry in std::fs::read_dir(folder).bad_input(context)? {
        let path = entry.with_context(context)?.path();
        let scores = ["scores", "scores.json"].map(|name| path.join("evaluate").join(name));
        let Some(scores) = scores.into_iter().find(|p| p.exists()) else { continue };
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let log = ["log", "log.jsonl"].map(|name| path.join("train").join(name));
        let log = log.into_iter().find(|p| p.is_file()).map(|p| Log::read(&p)).transpose()?;
        runs.insert(name.to_string(), Run { scored: Scored::read(&scores)?, log });
    }
    if runs.is_empty() {
        bad_input!(
            "{}: no VARIANT/evaluate/scores in it; give the study's `out` folder after `pipeline run --variant '*'`",
            folder.display()
        )
    }
    Ok(runs)
}

/// A row with its run, if there is one. Runs that the table lacks follow at the end.
struct Compared<'a> {
    row: Row,
    run: Option<&'a Run>,
}

fn rows(runs: &BTreeMap<String, Run>, published: Vec<Row>) -> Vec<Compared<'_>> {
    let known: Vec<Option<String>> = published.iter().map(|r| r.variant.clone()).collect();
    let more = runs.keys().filter(|name| !known.iter().flatten().any(|k| k == *name));
    let more = more.map(|name| Row {
        variant: Some(name.clone()),
        name: code(name),
        line: String::new(),
        published: Map::new(),
    });
    let all: Vec<Row> = published.into_iter().chain(more.collect::<Vec<_>>()).collect();
    let with = |row: Row| Compared { run: row.variant.as_ref().and_then(|v| runs.get(v)), row };
    all.into_iter().map(with).collect()
}

fn table(rows: &[Compared], source: &str, notes: &[String]) -> Section {
    let mut section = Section::new("Comparison");
    let measured =
        |key: &str| rows.iter().any(|r| r.run.is_some_and(|run| metric(&run.scored.last, key).is_some()));
    let published = |key: &str| rows.iter().any(|r| r.row.published.get(key).is_some_and(Json::is_number));
    let mut titles = vec!["System".to_string()];
    let mut cells: Vec<Vec<String>> = rows.iter().map(|r| vec![r.row.name.clone()]).collect();
    for (key, title, runs) in COLUMNS {
        if runs && measured(key) {
            titles.push(format!("{title}, here #"));
            for (cells, row) in cells.iter_mut().zip(rows) {
                let value = row.run.map(|run| metric(&run.scored.last, key).map_or("–".into(), number));
                cells.push(value.unwrap_or_else(|| "not run".into()));
            }
        }
        if published(key) {
            titles.push(format!("{title}, published #"));
            for (cells, row) in cells.iter_mut().zip(rows) {
                let value = row.row.published.get(key).and_then(Json::as_f64);
                cells.push(value.map_or("not published".into(), number));
            }
        }
    }
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let mut table = Table::new("", &titles);
    table.rows = cells;
    section.blocks.push(Block::Table(table));
    let images = rows.iter().filter_map(|r| r.run?.scored.last.pointer("/samples/images")?.as_u64());
    let (least, most) = (images.clone().min(), images.max());
    if let (Some(least), Some(most)) = (least, most) {
        let count = if least == most {
            number(most as f64)
        } else {
            format!("{} to {}", number(least as f64), number(most as f64))
        };
        section.text(format!("Here: {count} samples a run, scored as each run's own report says."));
    }
    if !rows.iter().any(|r| r.row.published.values().any(Json::is_number)) {
        section.text("No numbers of these rows are published in a text that could be read.");
    } else if !source.is_empty() {
        section.text(format!(
            "Published: {source}. The two can be set beside each other only where these runs have the paper's data, settings \
             and number of samples; a miniature profile has not."
        ));
    }
    notes.iter().for_each(|note| section.text(note.clone()));
    section
}

/// FID against the multiply-accumulates of one image, where the table has them.
fn cost(rows: &[Compared]) -> Option<Section> {
    let gmacs = |r: &Compared| r.row.published.get("gmacs").and_then(Json::as_f64);
    let here = lines(rows, |r| vec![(gmacs(r), metric(&r.run?.scored.last, "fid"))].into());
    let there = lines(rows, |r| vec![(gmacs(r), r.row.published.get("fid").and_then(Json::as_f64))].into());
    let mut drawn = Vec::new();
    for (title, lines) in [("FID here", &here), ("FID published", &there)] {
        if lines.iter().any(|l| l.1.len() > 1) {
            let series = lines.iter().map(|(name, points)| (name.clone(), points.as_slice())).collect();
            drawn.push(Panel { title: title.into(), log: true, raw: &[], series, dots: true });
        }
    }
    (!drawn.is_empty()).then(|| {
        let mut section = Section::new("Cost");
        section.blocks.push(Block::Figure(Figure {
            name: "cost".into(),
            alt: "FID against multiply-accumulates".into(),
            caption: "FID against the multiply-accumulates of one image as published (the paper's Fig. 4); lower and further \
                      left is better. A line joins the sizes of one system."
                .into(),
            svg: panels(&drawn, "GMACs per image"),
        }));
        section
    })
}

type Line = (String, Vec<(f64, f64)>);

/// Points grouped by the line of their row, sorted along it.
fn lines(
    rows: &[Compared],
    points: impl Fn(&Compared) -> Option<Vec<(Option<f64>, Option<f64>)>>,
) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        let found = points(row).unwrap_or_default().into_iter().filter_map(|(x, y)| Some((x?, y?)));
        let name = if row.row.line.is_empty() { &row.row.name } else { &row.row.line };
        let at = lines.iter().position(|l| l.0 == *name).unwrap_or_else(|| {
            lines.push((name.clone(), Vec::new()));
            lines.len() - 1
        });
        lines[at].1.extend(found);
    }
    lines.retain(|l| !l.1.is_empty());
    lines.iter_mut().for_each(|l| l.1.sort_by(|a, b| a.0.total_cmp(&b.0)));
    lines
}

/// FID against training steps, where several checkpoints of a run were scored.
fn convergence(rows: &[Compared]) -> Option<Section> {
    let curves: Vec<Line> = rows
        .iter()
        .filter_map(|r| Some((bare(&r.row.name), r.run?.scored.curve("fid"))))
        .filter(|c| c.1.len() > 1)
        .collect();
    if curves.is_empty() {
        return None;
    }
    let series = curves.iter().map(|(name, points)| (name.clone(), points.as_slice())).collect();
    let mut section = Section::new("Convergence");
    section.blocks.push(Block::Figure(Figure {
        name: "convergence".into(),
        alt: "FID over the training steps".into(),
        caption: "FID of each checkpoint against its training step (the paper's Fig. 5).".into(),
        svg: panels(
            &[Panel { title: "FID".into(), log: true, raw: &[], series, dots: true }],
            "training step",
        ),
    }));
    Some(section)
}

/// The noise error of all runs.
fn training(rows: &[Compared], window: f64) -> Option<Section> {
    let mut curves: Vec<Line> = Vec::new();
    for row in rows {
        let Some(points) = row.run.and_then(|run| run.log.as_ref()?.get("mse")) else { continue };
        let window = ((points.len() as f64 * window).round() as usize).max(1) | 1;
        curves.push((bare(&row.row.name), smooth(points, window)));
    }
    if curves.is_empty() {
        return None;
    }
    let mut section = Section::new("Training");
    let mut table = Table::new(
        "Noise error (mean squared error), median of the first and of the last tenth of each log.",
        &["System", "First #", "Last #"],
    );
    for (name, points) in &curves {
        let tenth = points.len().div_ceil(10);
        let median = |part: &[(f64, f64)]| {
            let mut values: Vec<f64> = part.iter().map(|p| p.1).collect();
            values.sort_by(f64::total_cmp);
            number(values[values.len() / 2])
        };
        table.row([name.clone(), median(&points[..tenth]), median(&points[points.len() - tenth..])]);
    }
    let series = curves.iter().map(|(name, points)| (name.clone(), points.as_slice())).collect();
    let title = "Noise error (mean squared error per latent value)".into();
    section.blocks.push(Block::Figure(Figure {
        name: "training".into(),
        alt: "Noise error of all runs over the training steps".into(),
        caption: "Noise error of every run, running median. Source: the training logs.".into(),
        svg: panels(&[Panel { title, log: true, raw: &[], series, dots: false }], "training step"),
    }));
    section.blocks.push(Block::Table(table));
    Some(section)
}

/// A name without the marks of code, for a picture.
fn bare(name: &str) -> String {
    name.replace('`', "")
}

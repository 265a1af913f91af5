//! The variants of a study beside each other, and beside the numbers that the paper published.

mod along;
mod charts;
mod export;
mod maps;
mod picture;
pub mod published;
pub mod runs;
mod samples;
mod table;

use crate::document::{Block, Document, Figure, Grid, Section, number};
use crate::{html, markdown};
use anyhow::Result;
use models::interchange::Hints;
use published::Published;
use runs::{Folders, Variant};
use stage::bad_input;
use std::collections::BTreeMap;
use std::path::Path;
use table::Compared;

/// Name of the files that hold the table alone.
const NAME: &str = "comparison";

/// What is compared, beside scores and what goes with them.
pub struct Choices<'a> {
    /// Title of the report.
    pub title: &'a str,
    /// The window of a log's smooth line, a share of the log.
    pub smoothing: f64,
    /// Whether the gating maps stand side by side.
    pub gating_maps: bool,
    /// What foreign checkpoints do not say.
    pub hints: Hints,
    /// Classes of the samples that stand side by side, at most.
    pub classes: usize,
    /// Samples of each.
    pub per_class: usize,
}

/// What a comparison adds to a report.
pub struct Comparison {
    /// One sentence under the title.
    pub lead: String,
    /// The sections.
    pub sections: Vec<Section>,
    /// The table alone, as a figure that is no part of the page; where there are scores.
    pub picture: Option<Figure>,
    /// The table alone in other formats, and what stands behind the figures.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Compares the variants.
///
/// # Errors
/// Bad input when something cannot be read, or no variant has what is compared.
pub fn compare(folders: &Folders, published: Option<&Path>, choices: &Choices) -> Result<Comparison> {
    let mut published = published.map(Published::read).transpose()?.unwrap_or_default();
    let scored = folders.samples.is_none() && !choices.gating_maps;
    let variants = runs::read(folders, scored)?;
    let rows = table::rows(&variants, std::mem::take(&mut published.rows));
    let lead = match published.title.as_str() {
        "" if variants.len() == 1 => "One variant.".into(),
        "" => format!("{} variants beside each other.", variants.len()),
        title => title.to_string(),
    };
    let mut comparison = Comparison { lead, sections: Vec::new(), picture: None, files: Vec::new() };
    if variants.values().flat_map(|v| &v.seeds).any(|run| run.scored.is_some()) {
        comparison.table(&rows, &variants, &published, choices.title);
        comparison.sections.extend(charts::cost(&rows));
        comparison.sections.extend(along::section(&rows));
        comparison.sections.extend(charts::convergence(&rows));
    }
    let maps = if choices.gating_maps { maps::section(&rows, &choices.hints)? } else { None };
    let samples = samples::section(&rows, choices.classes, choices.per_class)?;
    for (section, files) in maps.into_iter().chain(samples) {
        comparison.sections.push(section);
        comparison.files.extend(files);
    }
    comparison.sections.extend(charts::training(&rows, choices.smoothing));
    comparison.sections.extend(charts::gating(&rows));
    if comparison.sections.is_empty() {
        bad_input!(
            "--gating-maps: no variant has checkpoints of a network with gates; give --variant-checkpoints or --runs"
        )
    }
    if comparison.picture.is_none() {
        // The table has said it otherwise.
        published.notes.iter().for_each(|note| comparison.sections[0].text(note.clone()));
    }
    Ok(comparison)
}

impl Comparison {
    /// The table, on the page and alone.
    fn table(
        &mut self,
        rows: &[Compared],
        variants: &BTreeMap<String, Variant>,
        published: &Published,
        title: &str,
    ) {
        let any = rows.iter().any(|r| r.row.published.values().any(serde_json::Value::is_number));
        let grids = table::grids(rows, any, &published.across);
        let section = section(rows, &grids, published, variants, any);
        let alone = Document {
            title: title.into(),
            lead: self.lead.clone(),
            sections: vec![section.clone()],
            ..Document::default()
        };
        let files = [
            ("md", markdown::render(&alone)),
            ("html", html::render(&alone)),
            ("tex", export::latex(&grids, &self.lead, NAME)),
            ("csv", export::csv(rows)),
        ];
        self.files.extend(files.map(|(ending, text)| (format!("{NAME}.{ending}"), text.into_bytes())));
        self.sections.push(section);
        self.picture = Some(Figure {
            name: NAME.into(),
            alt: self.lead.clone(),
            caption: String::new(),
            svg: picture::draw(&grids, &self.lead),
        });
    }
}

fn section(
    rows: &[Compared],
    grids: &[Grid],
    published: &Published,
    variants: &BTreeMap<String, Variant>,
    any: bool,
) -> Section {
    let mut section = Section::new("Comparison");
    section.blocks.extend(grids.iter().cloned().map(Block::Grid));
    let seeds = variants.values().map(|v| v.seeds.len());
    let (fewest, most) = (seeds.clone().min().unwrap_or(1), seeds.max().unwrap_or(1));
    let mut here = "Here: ".to_string();
    if most > 1 {
        here += &format!("mean ± standard deviation over {} seeds; ", range(fewest, most));
    }
    let images = || {
        let runs = variants.values().flat_map(|v| &v.seeds);
        runs.filter_map(|r| r.scored.as_ref()?.last.pointer("/samples/images")?.as_u64())
    };
    if let (Some(least), Some(most)) = (images().min(), images().max()) {
        here += &format!("{} samples a run. ", range(least as usize, most as usize));
    }
    if any {
        here += "Bold: the best of its column within a block, as printed. ";
    }
    let missing = rows.iter().filter(|r| r.here.is_none()).map(|r| r.row.name.as_str());
    let missing: Vec<&str> = missing.collect();
    if !missing.is_empty() {
        here += &format!("Not run here: {}.", missing.join("; "));
    }
    section.text(here.trim_end());
    section.blocks.extend(networks(rows));
    if !any {
        if !published.title.is_empty() {
            section.text("No numbers of these rows are published in a text that could be read.");
        }
    } else if !published.source.is_empty() {
        section.text(format!(
            "Paper: {}. The two can be set beside each other only where these runs have the paper's data, settings and number \
             of samples; a miniature profile has not.",
            published.source
        ));
    }
    published.notes.iter().for_each(|note| section.text(note.clone()));
    section
}

/// What stands behind the costs, where an activated parameter is not a stored one.
fn networks(rows: &[Compared]) -> Option<Block> {
    let said = rows.iter().filter_map(|r| {
        let cost = r.here?.seeds.iter().find_map(|run| run.cost)?;
        let several =
            if cost.networks > 1 { format!(" in each of {} networks", cost.networks) } else { String::new() };
        let more = cost.stored > cost.params || cost.networks > 1;
        more.then(|| format!("{} {}M{several}", r.row.name, number((cost.stored * 100.0).round() / 100.0)))
    });
    let said: Vec<String> = said.collect();
    let text = format!(
        "Params here are those that one timestep uses, in millions, as in the paper; stored are: {}.",
        said.join("; ")
    );
    (!said.is_empty()).then_some(Block::Text(text))
}

/// `10` or `3 to 10`.
fn range(least: usize, most: usize) -> String {
    let text = |n: usize| number(n as f64);
    if least == most { text(most) } else { format!("{} to {}", text(least), text(most)) }
}

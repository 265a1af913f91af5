//! The gating maps of several networks side by side, each above the prior that it is best matched to.

use super::table::Compared;
use crate::document::{Block, Figure, Section, Table, grouped, number};
use crate::figure::letters::{SIZE, fit};
use crate::figure::svg::{Anchor, Svg, WIDTH};
use crate::gating::{Files, learned_and_prior, percent};
use crate::network::Loaded;
use crate::tables;
use anyhow::Result;
use models::analysis::Gating;
use models::interchange::Hints;

/// Networks in a line at most.
const ACROSS: usize = 4;

const LEFT: f64 = 34.0;
const GAP: f64 = 16.0;
const TITLE: f64 = 20.0;
/// Between a map and the prior below it.
const BETWEEN: f64 = 8.0;
const AXIS: f64 = 34.0;
/// Size of a title, which is set in semibold.
const LARGE: f64 = 11.5;

/// A network with its gates.
struct Map {
    name: String,
    gating: Gating,
}

/// The section and its files, where a network has gates that can be read.
///
/// # Errors
/// Bad input when a checkpoint cannot be read.
pub fn section(rows: &[Compared], hints: &Hints) -> Result<Option<(Section, Files)>> {
    let mut maps = Vec::new();
    let mut without = Vec::new();
    let mut files = Files::new();
    for row in rows {
        // Seeds differ in what they drew; one of them is shown.
        let Some(run) = row.here.and_then(|here| here.seeds.first()) else { continue };
        for (i, path) in run.networks.iter().enumerate() {
            let several = if run.networks.len() > 1 { format!(", {}", i + 1) } else { String::new() };
            let name = format!("{}{several}", row.row.name);
            match Gating::of(&Loaded::read(path, hints)?.network) {
                Some(gating) => {
                    let variant = row.row.variant.as_deref().unwrap_or_default();
                    let file = format!("gating-{variant}{}.parquet", several.replace(", ", "-"));
                    files.push((file, tables::gating(&gating)?));
                    maps.push(Map { name, gating });
                }
                None => without.push(name),
            }
        }
    }
    if maps.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("Gating maps side by side");
    section.blocks.push(Block::Figure(figure(&maps)?));
    section.blocks.push(Block::Table(table(&maps)));
    if !without.is_empty() {
        section.text(format!("Without gates: {}.", without.join("; ")));
    }
    section.text("The maps are in `gating-VARIANT.parquet`, a row for each timestep and expert.");
    Ok(Some((section, files)))
}

fn figure(maps: &[Map]) -> Result<Figure> {
    let lines = maps.len().div_ceil(ACROSS);
    let across = maps.len().div_ceil(lines);
    let width = (WIDTH - LEFT - GAP * across as f64) / across as f64;
    let mut svg = Svg::default();
    let mut top = 0.0;
    for line in maps.chunks(across) {
        let columns = line.iter().map(|map| map.gating.columns()).max().unwrap_or(0);
        let height = (columns as f64 * 5.0).clamp(110.0, 200.0);
        for (i, map) in line.iter().enumerate() {
            draw(&mut svg, map, [LEFT + (width + GAP) * i as f64, top, width, height])?;
        }
        for (name, at) in [("learned", 0.0), ("prior", height + BETWEEN)] {
            svg.upward((LEFT - 12.0, top + TITLE + at + height / 2.0), name);
        }
        top += TITLE + 2.0 * height + BETWEEN + AXIS;
    }
    svg.text(
        "soft",
        (LEFT + (WIDTH - LEFT) / 2.0, top + 4.0),
        Anchor::Middle,
        "timestep (0 clean, right noise)",
    );
    Ok(Figure {
        name: "gating-maps".into(),
        alt: "Gating maps of several networks, each above its prior".into(),
        caption: "Gating maps of the networks beside each other, all experts of all blocks from top to bottom (Figs. 3 and 6 of the \
                  Switch-DiT paper). Blue: the timestep keeps the expert. Below each the prior; rows of a map stand in the order of the \
                  prior columns that the best assignment matches them to, so that a map equal to its prior would look like it."
            .into(),
        svg: svg.finish(top + 10.0),
    })
}

/// A network's map above its prior, in a place of this left, top, width and height of each.
fn draw(svg: &mut Svg, map: &Map, [left, top, width, height]: [f64; 4]) -> Result<()> {
    let gating = &map.gating;
    let [learned, prior] = learned_and_prior(gating)?;
    svg.text("title", (left, top + 13.0), Anchor::Start, &fit(&map.name, LARGE, true, width));
    for (png, top) in [(&learned, top + TITLE), (&prior, top + TITLE + height + BETWEEN)] {
        svg.image(false, png, left, top, width, height);
        svg.rectangle("frame", left, top, width, height);
    }
    let bottom = top + TITLE + 2.0 * height + BETWEEN;
    let ends = [(0.0, Anchor::Start), (0.5, Anchor::Middle), (1.0, Anchor::End)];
    for (share, anchor) in ends {
        let t = (share * gating.timesteps as f64) as i64;
        let x = left + width * share;
        svg.line("frame", (x, bottom), (x, bottom + 3.0));
        svg.text("soft", (x, bottom + 14.0), anchor, &fit(&grouped(t), SIZE, false, width));
    }
    Ok(())
}

fn table(maps: &[Map]) -> Table {
    let columns = [
        "Network",
        "Blocks #",
        "Experts #",
        "Kept #",
        "Agrees with the prior #",
        "Paths #",
        "Experts of all timesteps #",
    ];
    let caption = "The maps in numbers: the share of cells that agree with the matched prior, and how many different paths the timesteps \
                   take.";
    let mut table = Table::new(caption, &columns);
    for Map { name, gating } in maps {
        let count = |n: usize| number(n as f64);
        table.row([
            name.clone(),
            count(gating.blocks),
            count(gating.experts),
            count(gating.top_k),
            percent(gating.agreement()),
            count(gating.patterns()),
            count(gating.shared().into_iter().filter(|shared| *shared).count()),
        ]);
    }
    table
}

//! Samples of several networks side by side: the same places are the same class and begin with the same noise.

use super::table::Compared;
use crate::document::{Block, Figure, Section};
use crate::figure::letters::{SIZE, fit, width};
use crate::figure::raster;
use crate::figure::svg::{Anchor, Svg, WIDTH};
use crate::gating::Files;
use crate::markdown::FIGURES;
use crate::samples::{Archive, Grid, PIXELS};
use anyhow::Result;

/// Networks in a line at most.
const ACROSS: usize = 4;
const GAP: f64 = 10.0;
const TITLE: f64 = 20.0;
/// Size of a title, which is set in semibold.
const LARGE: f64 = 11.5;

/// A network's samples.
struct Sampled {
    name: String,
    grid: Grid,
    png: Vec<u8>,
}

/// The section and its files, where variants have samples: the first `columns` of each class, of at most `rows` classes.
///
/// # Errors
/// Bad input when samples cannot be read, or when those at one place were asked for different classes.
pub fn section(rows: &[Compared], classes: usize, columns: usize) -> Result<Option<(Section, Files)>> {
    // Seeds differ in their noise; one of them is shown.
    let sampled = rows.iter().filter_map(|row| Some((row, row.here?.seeds.first()?.samples.as_deref()?)));
    let opened = sampled.map(|(row, path)| Ok((row, Archive::open(path)?)));
    let mut archives = opened.collect::<Result<Vec<_>>>()?;
    let Some(((_, first), others)) = archives.split_first() else { return Ok(None) };
    let chosen = first.choose(classes, columns);
    others.iter().try_for_each(|(_, other)| other.agrees(first, &chosen))?;
    let (mut all, mut files) = (Vec::new(), Files::new());
    for (row, archive) in &mut archives {
        let grid = archive.grid(&chosen)?;
        let png = raster::png(&grid.picture())?;
        let variant = row.row.variant.as_deref().unwrap_or_default();
        files.push((format!("{FIGURES}/samples-of-{variant}.png"), png.clone()));
        all.push(Sampled { name: row.row.name.clone(), grid, png });
    }
    let mut section = Section::new("Samples side by side");
    section.blocks.push(Block::Figure(figure(&all)));
    Ok(Some((section, files)))
}

fn figure(all: &[Sampled]) -> Figure {
    let lines = all.len().div_ceil(ACROSS);
    let across = all.len().div_ceil(lines);
    // All have the rows and columns of the first.
    let grid = &all[0].grid;
    let labels = grid.rows.iter().map(|(label, _)| width(label, SIZE, false)).fold(0.0, f64::max);
    let left = if labels > 0.0 { labels + 10.0 } else { 0.0 };
    let room = (WIDTH - left - GAP * (across - 1) as f64) / across as f64;
    let mut svg = Svg::default();
    let mut top = 0.0;
    for line in all.chunks(across) {
        let mut highest: f64 = 0.0;
        for (i, sampled) in line.iter().enumerate() {
            let (cell_width, cell_height) = sampled.grid.cell();
            let columns = sampled.grid.columns() as f64;
            let wide = room.min(columns * WIDTH / 8.0);
            let row = wide / columns * f64::from(cell_height) / f64::from(cell_width);
            let height = row * sampled.grid.rows.len() as f64;
            let x = left + (room + GAP) * i as f64;
            svg.text("title", (x, top + 13.0), Anchor::Start, &fit(&sampled.name, LARGE, true, room));
            svg.image(cell_width <= PIXELS, &sampled.png, x, top + TITLE, wide, height);
            if i == 0 {
                for (r, (label, _)) in sampled.grid.rows.iter().enumerate() {
                    let y = top + TITLE + row * (r as f64 + 0.5) + 3.5;
                    svg.text("soft", (left - 8.0, y), Anchor::End, label);
                }
            }
            highest = highest.max(height);
        }
        top += TITLE + highest + GAP;
    }
    let rows = match grid.labelled() {
        true => "One row per class, the first samples asked for it, unselected",
        false => "The first samples, unselected",
    };
    Figure {
        name: "samples-side-by-side".into(),
        alt: "Samples of several networks at the same places".into(),
        caption: format!(
            "{rows}. Pictures at the same place were asked for the same class, and with one `--seed` begin with the same noise: they \
             differ by the network alone. Source: `samples.npz` of each."
        ),
        svg: svg.finish(top),
    }
}

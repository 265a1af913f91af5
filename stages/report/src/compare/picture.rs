//! A table of results as a figure, for a slide or a paper.

use crate::document::{Cell, Grid};
use crate::figure::letters::{SIZE, width};
use crate::figure::svg::{Anchor, Svg};

const ROW: f64 = 17.0;
const GAP: f64 = 16.0;
const EDGE: f64 = 10.0;

/// The tables, one below the other, each under a line of text.
pub fn draw(grids: &[Grid], caption: &str) -> String {
    let mut svg = Svg::default();
    let mut top = EDGE;
    let mut right = EDGE + width(caption, 11.5, true);
    for (i, grid) in grids.iter().enumerate() {
        if i == 0 {
            svg.text("title", (EDGE, top + 10.0), Anchor::Start, caption);
            top += 20.0;
        }
        right = right.max(table(&mut svg, grid, &mut top));
        top += 14.0;
    }
    svg.finish_wide(right + EDGE, top)
}

/// Draws a table from `top` on and says where it ends at the right.
fn table(svg: &mut Svg, grid: &Grid, top: &mut f64) -> f64 {
    let (names, columns) = widths(grid);
    let starts: Vec<f64> = columns
        .iter()
        .scan(EDGE + names, |at, width| {
            *at += GAP + width;
            Some(*at)
        })
        .collect();
    let right = starts.last().copied().unwrap_or(EDGE + names);
    let rule = |svg: &mut Svg, class: &str, y: f64| svg.line(class, (EDGE, y), (right, y));
    rule(svg, "rule", *top);
    let mut y = *top + ROW - 5.0;
    svg.text("strong", (EDGE, y), Anchor::Start, &grid.first);
    let mut column = 0;
    for head in &grid.heads {
        let span = head.under.len();
        let (from, to) = (starts[column] - columns[column], starts[column + span - 1]);
        if span == 1 {
            svg.text("strong", (to, y), Anchor::End, &head.title);
        } else {
            svg.text("strong", ((from + to) / 2.0, y), Anchor::Middle, &head.title);
            svg.line("frame", (from, y + 5.0), (to, y + 5.0));
        }
        column += span;
    }
    if grid.two_levels() {
        y += ROW;
        for ((_, under), at) in grid.columns().zip(&starts) {
            svg.text("soft", (*at, y), Anchor::End, under);
        }
    }
    for (i, block) in grid.blocks.iter().enumerate() {
        rule(svg, if i == 0 { "frame" } else { "grid" }, y + 5.0);
        if !block.title.is_empty() {
            y += ROW;
            svg.text("soft", (EDGE, y), Anchor::Start, &block.title);
        }
        for row in &block.rows {
            y += ROW;
            svg.text("ink", (EDGE, y), Anchor::Start, &row.name);
            for (cell, at) in row.cells.iter().zip(&starts) {
                svg.text(if cell.best { "strong" } else { "ink" }, (*at, y), Anchor::End, cell.shown());
            }
        }
    }
    rule(svg, "rule", y + 6.0);
    *top = y + 8.0;
    right
}

/// The width of the names, and of every column.
fn widths(grid: &Grid) -> (f64, Vec<f64>) {
    let rows = || grid.blocks.iter().flat_map(|b| &b.rows);
    let plain = |text: &str| width(text, SIZE, false);
    let titles = grid.blocks.iter().map(|b| plain(&b.title));
    let names = rows().map(|r| plain(&r.name)).chain(titles).fold(width(&grid.first, SIZE, true), f64::max);
    let cell = |cell: &Cell| width(cell.shown(), SIZE, cell.best);
    let mut columns: Vec<f64> = grid
        .columns()
        .enumerate()
        .map(|(i, (_, under))| rows().filter_map(|r| r.cells.get(i)).map(cell).fold(plain(under), f64::max))
        .collect();
    // A heading over several columns widens them alike.
    let mut at = 0;
    for head in &grid.heads {
        let span = head.under.len();
        let has = columns[at..at + span].iter().sum::<f64>() + GAP * (span - 1) as f64;
        let lacks = (width(&head.title, SIZE, true) - has).max(0.0) / span as f64;
        columns[at..at + span].iter_mut().for_each(|w| *w += lacks);
        at += span;
    }
    (names, columns)
}

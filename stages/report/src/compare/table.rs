//! The table of a comparison in the paper's layout: published numbers beside ours, the best of each block marked.

use super::published::Row;
use super::runs::{Mean, Variant};
use crate::document::{Cell, Grid, GridBlock, GridRow, Head};
use std::collections::BTreeMap;

/// A row with its variant, if it was run.
pub struct Compared<'a> {
    /// What the paper says of it.
    pub row: Row,
    /// What was measured here.
    pub here: Option<&'a Variant>,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Lower.
    Lower,
    /// Higher.
    Higher,
    /// Neither: what a network costs.
    Neither,
}

/// A column: its key, heading, way.
pub struct Column {
    /// The name of the number in the scores and in the published file.
    pub key: &'static str,
    /// Its heading in the paper.
    pub title: &'static str,
    /// Which way is better.
    pub better: Better,
}

const fn column(key: &'static str, title: &'static str, better: Better) -> Column {
    Column { key, title, better }
}

/// All columns that a table may have, in the paper's order.
pub const COLUMNS: [Column; 8] = [
    column("params", "Params", Better::Neither),
    column("gmacs", "GMACs", Better::Neither),
    column("fid", "FID", Better::Lower),
    column("fid_10k", "FID-10K", Better::Lower),
    column("sfid", "sFID", Better::Lower),
    column("inception_score", "IS", Better::Higher),
    column("precision", "Precision", Better::Higher),
    column("recall", "Recall", Better::Higher),
];

impl Column {
    /// Its heading with an arrow to the better side.
    pub fn heading(&self) -> String {
        let arrow = match self.better {
            Better::Lower => " ↓",
            Better::Higher => " ↑",
            Better::Neither => "",
        };
        format!("{}{arrow}", self.title)
    }

    /// A number as the paper prints it: two decimals, whole millions of parameters.
    pub fn print(&self, value: f64) -> String {
        match self.key {
            "params" if value >= 10.0 => format!("{value:.0}M"),
            "params" => format!("{value:.2}M"),
            _ => format!("{value:.2}"),
        }
    }

    fn print_mean(&self, value: Mean) -> String {
        match value.deviation {
            Some(deviation) => format!("{} ± {deviation:.2}", self.print(value.mean)),
            None => self.print(value.mean),
        }
    }
}

/// Pairs the published rows with the variants. Variants that the table lacks follow at the end.
pub fn rows(variants: &BTreeMap<String, Variant>, published: Vec<Row>) -> Vec<Compared<'_>> {
    let known: Vec<String> = published.iter().filter_map(|r| r.variant.clone()).collect();
    let more: Vec<Row> = variants.keys().filter(|name| !known.contains(name)).map(|n| Row::of(n)).collect();
    let with = |row: Row| Compared { here: row.variant.as_ref().and_then(|v| variants.get(v)), row };
    published.into_iter().chain(more).map(with).collect()
}

impl Compared<'_> {
    fn here(&self, key: &str) -> Option<Mean> {
        self.here?.metric(key)
    }

    /// The cells of a column: what was published, and what was measured.
    fn pair(&self, column: &Column) -> [(Option<f64>, String); 2] {
        let (there, here) = (self.row.number(column.key), self.here(column.key));
        [
            (there, there.map(|v| column.print(v)).unwrap_or_default()),
            (here.map(|m| m.mean), here.map(|m| column.print_mean(m)).unwrap_or_default()),
        ]
    }
}

const SIDES: [&str; 2] = ["paper", "here"];

/// The whole table; where the paper has the systems side by side, that table first, `across` the heading of its rows.
pub fn grids(rows: &[Compared], published: bool, across: &str) -> Vec<Grid> {
    let all = long(rows, published);
    wide(rows, across).into_iter().chain(all).collect()
}

/// One row for each system.
fn long(rows: &[Compared], published: bool) -> Option<Grid> {
    // For each column, which of its two sides has any number.
    let sides: Vec<(&Column, Vec<usize>)> = COLUMNS
        .iter()
        .filter_map(|column| {
            let has = |side: usize| rows.iter().any(|r| r.pair(column)[side].0.is_some());
            let found: Vec<usize> = (0..2).filter(|side| has(*side)).collect();
            (!found.is_empty()).then_some((column, found))
        })
        .collect();
    let heads = sides.iter().map(|(column, sides)| Head {
        title: column.heading(),
        // Without published numbers all are ours, which needs no saying.
        under: if published { sides.iter().map(|s| SIDES[*s].into()).collect() } else { vec![String::new()] },
    });
    let heads = heads.collect();
    let mut blocks: Vec<GridBlock> = Vec::new();
    for part in rows.chunk_by(|a, b| a.row.block() == b.row.block()) {
        let mut cells: Vec<Vec<Cell>> = part.iter().map(|_| Vec::new()).collect();
        for (column, sides) in &sides {
            for side in sides {
                let values: Vec<_> = part.iter().map(|r| r.pair(column)[*side].clone()).collect();
                let best = best(&values, column);
                for (row, ((_, text), best)) in cells.iter_mut().zip(values.into_iter().zip(best)) {
                    row.push(Cell { text, best });
                }
            }
        }
        let named = part.iter().zip(cells).map(|(r, cells)| GridRow { name: r.row.name.clone(), cells });
        blocks.push(GridBlock { title: part[0].row.group.clone(), rows: named.collect() });
    }
    // One heading for all says nothing.
    if blocks.len() == 1 {
        blocks[0].title.clear();
    }
    (!rows.is_empty()).then_some(Grid { first: "System".into(), heads, blocks })
}

/// The systems side by side, a block for each published score.
fn wide(rows: &[Compared], across: &str) -> Option<Grid> {
    let cells: Vec<&Compared> = rows.iter().filter(|r| !r.row.across.is_empty()).collect();
    let mut names: Vec<&str> = Vec::new();
    let mut systems: Vec<&str> = Vec::new();
    for cell in &cells {
        for (list, name) in [(&mut names, &cell.row.across), (&mut systems, &cell.row.line)] {
            if !list.contains(&name.as_str()) {
                list.push(name);
            }
        }
    }
    let scores = COLUMNS.iter().filter(|c| c.better != Better::Neither);
    let scores = scores.filter(|c| cells.iter().any(|r| r.row.number(c.key).is_some()));
    let block = |column: &Column| {
        let at = |name: &str, system: &str| {
            let found = cells.iter().find(|r| r.row.across == name && r.row.line == system);
            found.map_or_else(Default::default, |r| r.pair(column))
        };
        let pairs: Vec<Vec<_>> = names.iter().map(|n| systems.iter().map(|s| at(n, s)).collect()).collect();
        let side = |side: usize| {
            let values: Vec<_> = pairs.iter().flatten().map(|pair: &[_; 2]| pair[side].clone()).collect();
            best(&values, column)
        };
        let bests = [side(0), side(1)];
        let rows = names.iter().zip(&pairs).enumerate().map(|(i, (name, pairs))| GridRow {
            name: (*name).into(),
            cells: pairs
                .iter()
                .enumerate()
                .flat_map(|(j, pair)| {
                    let k = i * systems.len() + j;
                    [0, 1].map(|side| Cell { text: pair[side].1.clone(), best: bests[side][k] })
                })
                .collect(),
        });
        GridBlock { title: column.heading(), rows: rows.collect() }
    };
    let blocks: Vec<GridBlock> = scores.map(block).collect();
    let heads = systems.iter().map(|s| Head { title: (*s).into(), under: SIDES.map(String::from).to_vec() });
    (!blocks.is_empty()).then(|| Grid { first: across.into(), heads: heads.collect(), blocks })
}

/// Which of some numbers are the best as they are printed; none where there is nothing to compare with.
fn best(values: &[(Option<f64>, String)], column: &Column) -> Vec<bool> {
    let there = || values.iter().filter_map(|v| v.0).filter(|v| v.is_finite());
    let best = match column.better {
        Better::Lower => there().reduce(f64::min),
        Better::Higher => there().reduce(f64::max),
        Better::Neither => None,
    };
    let printed = best.map(|b| column.print(b));
    let is_best = |v: &Option<f64>| printed.is_some() && v.map(|v| column.print(v)) == printed;
    // Where all are alike none is better.
    let count = values.iter().filter(|(v, _)| is_best(v)).count();
    values.iter().map(|(v, _)| count < there().count() && is_best(v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_as_printed_is_marked_and_a_lone_number_is_not() {
        let number = |v: f64| (Some(v), String::new());
        let lower = &COLUMNS[2];
        assert_eq!(best(&[number(16.2101), number(16.2049), number(16.211)], lower), [false, true, false]);
        assert_eq!(best(&[number(16.209), number(16.211), number(17.0)], lower), [true, true, false]);
        assert_eq!(best(&[number(16.209), number(16.211)], lower), [false, false]);
        assert_eq!(best(&[number(3.0), (None, String::new())], lower), [false, false]);
        assert_eq!(best(&[number(0.5), number(0.6)], &COLUMNS[7]), [false, true]);
        assert_eq!(best(&[number(33.0), number(36.0)], &COLUMNS[0]), [false, false]);
    }

    #[test]
    fn numbers_are_printed_as_in_the_paper() {
        assert_eq!(COLUMNS[0].print(130.5), "131M");
        assert_eq!(COLUMNS[0].print(0.5312), "0.53M");
        assert_eq!(COLUMNS[2].print(9.4), "9.40");
        let mean = Mean { mean: 16.2149, deviation: Some(0.126), count: 3 };
        assert_eq!(COLUMNS[2].print_mean(mean), "16.21 ± 0.13");
    }
}

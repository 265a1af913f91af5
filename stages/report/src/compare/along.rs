//! Scores as curves over what the headings of a table count: steps of a sampler, a guidance scale.

use super::table::Compared;
use crate::document::{Block, Figure, Section};
use crate::figure::chart::{Across, Line, Panel, panels};

/// The scores that are drawn, and whether less is better.
const SCORES: [(&str, &str); 2] =
    [("fid", "FID, lower is better"), ("inception_score", "Inception Score, higher is better")];

/// From so many times as far as it begins, an axis is logarithmic.
const FAR: f64 = 8.0;

/// A section with a figure for every heading whose rows say where they stand along it.
pub fn section(rows: &[Compared]) -> Option<Section> {
    let mut groups: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|r| r.row.at.is_some()) {
        if !groups.contains(&row.row.group.as_str()) {
            groups.push(&row.row.group);
        }
    }
    let mut section = Section::new("Curves");
    section.blocks.extend(groups.into_iter().filter_map(|group| figure(rows, group)).map(Block::Figure));
    (!section.blocks.is_empty()).then_some(section)
}

fn figure(rows: &[Compared], group: &str) -> Option<Figure> {
    let of = |key: &str| {
        let mut lines: Vec<Line> = Vec::new();
        for row in rows.iter().filter(|r| r.row.group == group) {
            let Some((at, mean)) = row.row.at.zip(row.here.and_then(|here| here.metric(key))) else {
                continue;
            };
            match lines.iter_mut().find(|(name, _)| *name == row.row.system()) {
                Some((_, points)) => points.push((at, mean.mean)),
                None => lines.push((row.row.system().into(), vec![(at, mean.mean)])),
            }
        }
        lines.iter_mut().for_each(|(_, points)| points.sort_by(|a, b| a.0.total_cmp(&b.0)));
        lines
    };
    let all = SCORES.map(|(key, title)| (title, of(key)));
    // One point is no curve.
    let drawn: Vec<Panel> = all
        .iter()
        .filter(|(_, lines)| lines.iter().any(|(_, points)| points.len() > 1))
        .map(|(title, lines)| Panel { dots: true, ..Panel::of(*title, lines) })
        .collect();
    let places = || all.iter().flat_map(|(_, lines)| lines).flat_map(|(_, points)| points).map(|p| p.0);
    let (least, most) = (places().fold(f64::INFINITY, f64::min), places().fold(0.0, f64::max));
    let word: String =
        group.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    (!drawn.is_empty()).then(|| Figure {
        name: format!("scores-{word}"),
        alt: format!("Scores against: {group}"),
        caption: format!("Scores of the same network against: {}.", group.to_lowercase()),
        svg: panels(&drawn, Across { title: &group.to_lowercase(), log: least > 0.0 && most >= FAR * least }),
    })
}

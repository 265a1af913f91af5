//! The figures of a comparison: scores against cost and training, noise errors, a panel for each size.

use super::runs::Points;
use super::table::Compared;
use crate::agreement::{SHARES, percent};
use crate::document::{Block, Figure, Section, Table, number};
use crate::figure::chart::{Across, Line, Panel, Series, panels};
use crate::log::smooth;

/// Of so many lines a figure that can be divided by size is.
const CROWDED: usize = 4;

const STEP: Across = Across { title: "training step", log: false };

/// FID against the multiply-accumulates of one image, where the table has them.
pub fn cost(rows: &[Compared]) -> Option<Section> {
    let here = lines(rows, |r| Some((r.here?.metric("gmacs")?.mean, r.here?.metric("fid")?.mean)));
    let there = lines(rows, |r| Some((r.row.number("gmacs")?, r.row.number("fid")?)));
    // Runs whose networks are not known stand at the published costs, if these are there.
    let borrowed = here.is_empty();
    let here = if borrowed {
        lines(rows, |r| Some((r.row.number("gmacs")?, r.here?.metric("fid")?.mean)))
    } else {
        here
    };
    let mut section = Section::new("Cost");
    let mut drawn = Vec::new();
    let mut table = Table::new("", &["System", "Scores", "GMACs #", "FID #", "Line at these GMACs #"]);
    let costs = if borrowed { "as published" } else { "by our count" };
    for (title, what, lines) in [
        (format!("FID here, GMACs {costs}"), "here", &here),
        ("FID and GMACs as published".into(), "published", &there),
    ] {
        // One system at several costs at least; several scores at one cost are no line.
        if !lines.iter().any(|l| l.1.first().map(|p| p.0) != l.1.last().map(|p| p.0)) {
            continue;
        }
        let trend = trend(&lines[0].1);
        if let Some(trend) = &trend {
            table.caption = format!("What the line of {} says of the other systems' smallest.", lines[0].0);
            for (name, points) in &lines[1..] {
                let (gmacs, fid) = points[0];
                let two = |x: f64| format!("{x:.2}");
                table.row([name.clone(), what.into(), two(gmacs), two(fid), two(trend.at(gmacs))]);
            }
        }
        let most = lines.iter().flat_map(|l| &l.1).map(|p| p.0).fold(0.0, f64::max);
        let least = lines.iter().flat_map(|l| &l.1).map(|p| p.0).fold(f64::INFINITY, f64::min);
        let along = (0..=40).map(|i| least * (most / least).powf(f64::from(i) / 40.0));
        let trend = trend.map(|t| along.map(|x| (x, t.at(x))).filter(|p| p.1 > 0.0).collect());
        drawn.push(Panel { trend: trend.unwrap_or_default(), dots: true, ..Panel::of(title, lines) });
    }
    if drawn.is_empty() {
        return None;
    }
    let fitted = drawn.iter().any(|p| !p.trend.is_empty());
    let dotted = if fitted {
        " Dotted: the least-squares line of FID over the logarithm of the GMACs through the first system."
    } else {
        ""
    };
    section.blocks.push(Block::Figure(Figure {
        name: "cost".into(),
        alt: "FID against multiply-accumulates".into(),
        caption: format!(
            "FID against the multiply-accumulates of one image; lower and further left is better. A line joins the sizes of one \
             system.{dotted}"
        ),
        svg: panels(&drawn, Across { title: "GMACs per image", log: true }),
    }));
    if !table.rows.is_empty() {
        section.blocks.push(Block::Table(table));
    }
    Some(section)
}

/// A least-squares line of y over the logarithm of x.
struct Trend {
    slope: f64,
    offset: f64,
}

impl Trend {
    fn at(&self, x: f64) -> f64 {
        self.offset + self.slope * x.ln()
    }
}

/// Through three points at least.
fn trend(points: &[(f64, f64)]) -> Option<Trend> {
    let n = points.len() as f64;
    let mean = |f: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(f).sum::<f64>() / n;
    let (x, y) = (mean(&|p| p.0.ln()), mean(&|p| p.1));
    let spread = mean(&|p| (p.0.ln() - x).powi(2));
    let slope = mean(&|p| (p.0.ln() - x) * (p.1 - y)) / spread;
    (points.len() > 2 && spread > 0.0).then_some(Trend { slope, offset: y - slope * x })
}

/// Points grouped by the system of their row, sorted along it.
fn lines(rows: &[Compared], point: impl Fn(&Compared) -> Option<(f64, f64)>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        let name = row.row.system();
        let at = lines.iter().position(|l| l.0 == name).unwrap_or_else(|| {
            lines.push((name.into(), Vec::new()));
            lines.len() - 1
        });
        lines[at].1.extend(point(row).filter(|p| p.0 > 0.0));
    }
    lines.retain(|l| !l.1.is_empty());
    lines.iter_mut().for_each(|l| l.1.sort_by(|a, b| a.0.total_cmp(&b.0)));
    lines
}

/// A curve of every row that has one.
struct Curve<'a> {
    row: &'a Compared<'a>,
    line: Line,
}

fn curves<'a>(rows: &'a [Compared], points: impl Fn(&Compared) -> Option<Points>) -> Vec<Curve<'a>> {
    rows.iter()
        .filter_map(|row| {
            let points = points(row).filter(|p| p.len() > 1)?;
            Some(Curve { row, line: (row.row.name.clone(), points) })
        })
        .collect()
}

/// One panel, or one for each family of rows where there are many lines. What has one name looks the same in all of them.
fn by_family<'a>(curves: &'a [Curve], title: &str) -> Vec<Panel<'a>> {
    let parts: Vec<&[Curve]> = curves.chunk_by(|a, b| a.row.row.panel() == b.row.row.panel()).collect();
    let divided = parts.len() > 1 && curves.len() > CROWDED;
    let parts = if divided { parts } else { vec![curves] };
    let mut names: Vec<&str> = Vec::new();
    let mut panel = |part: &'a [Curve]| {
        let series = part.iter().enumerate().map(|(i, curve)| {
            if !divided {
                return Series { name: curve.line.0.clone(), look: i, points: &curve.line.1 };
            }
            let name = curve.row.row.in_panel();
            let known = names.iter().position(|n| *n == name);
            // A name of one panel alone is told apart within that panel only.
            let alone = curve.row.row.line.is_empty();
            let look = if alone { i } else { known.unwrap_or(names.len()) };
            if !alone && known.is_none() {
                names.push(name);
            }
            Series { name: name.into(), look, points: &curve.line.1 }
        });
        let family = part.first().map(|c| c.row.row.panel()).filter(|_| divided).unwrap_or_default();
        let family: Vec<&str> = family.into_iter().filter(|n| !n.is_empty()).collect();
        let title = if family.is_empty() { title.into() } else { format!("{title}: {}", family.join(", ")) };
        Panel { title, log: true, series: series.collect(), ..Panel::default() }
    };
    parts.into_iter().map(&mut panel).collect()
}

/// FID against training steps, where several checkpoints of a run were scored.
pub fn convergence(rows: &[Compared]) -> Option<Section> {
    let curves = curves(rows, |r| Some(r.here?.scores("fid")));
    let mut drawn = by_family(&curves, "FID");
    drawn.iter_mut().for_each(|p| p.dots = true);
    (!curves.is_empty()).then(|| {
        let mut section = Section::new("Convergence");
        section.blocks.push(Block::Figure(Figure {
            name: "convergence".into(),
            alt: "FID over the training steps".into(),
            caption: "FID of each checkpoint that was scored, against its training step.".into(),
            svg: panels(&drawn, STEP),
        }));
        section
    })
}

/// How the gating maps of all runs moved, by their moving averages.
pub fn gating(rows: &[Compared]) -> Option<Section> {
    let all = SHARES.map(|(key, title)| {
        let key = format!("ema_{key}");
        (title, curves(rows, |r| Some(percent(&r.here?.logged(&key)))))
    });
    let found: Vec<_> = all.iter().filter(|(_, curves)| !curves.is_empty()).collect();
    let mut drawn: Vec<Panel> = found.iter().flat_map(|(title, curves)| by_family(curves, title)).collect();
    drawn.iter_mut().for_each(|panel| panel.log = false);
    (!drawn.is_empty()).then(|| {
        let mut section = Section::new("Gating maps");
        section.blocks.push(Block::Figure(Figure {
            name: "gating-agreement".into(),
            alt: "How far the gating maps of all runs agree with the prior and with themselves some steps before".into(),
            caption: "The gating map of each run's moving average at each look, beside the prior that it is best matched to, and beside \
                      the map of the look before: where that is all of it, the denoising paths have settled. Source: \
                      the training logs."
                .into(),
            svg: panels(&drawn, STEP),
        }));
        section
    })
}

/// The noise error of all runs.
pub fn training(rows: &[Compared], share: f64) -> Option<Section> {
    let curves = curves(rows, |r| {
        let points = r.here?.logged("mse");
        let window = ((points.len() as f64 * share).round() as usize).max(1) | 1;
        Some(smooth(&points, window))
    });
    if curves.is_empty() {
        return None;
    }
    let mut section = Section::new("Noise errors");
    let mut table = Table::new(
        "Noise error (mean squared error), median of the first and of the last tenth of each log.",
        &["System", "First #", "Last #"],
    );
    for curve in &curves {
        let (name, points) = &curve.line;
        let tenth = points.len().div_ceil(10);
        let median = |part: &[(f64, f64)]| {
            let mut values: Vec<f64> = part.iter().map(|p| p.1).collect();
            values.sort_by(f64::total_cmp);
            number(values[values.len() / 2])
        };
        table.row([name.clone(), median(&points[..tenth]), median(&points[points.len() - tenth..])]);
    }
    section.blocks.push(Block::Figure(Figure {
        name: "training".into(),
        alt: "Noise error of all runs over the training steps".into(),
        caption: "Noise error of every run (mean squared error per latent value), running median. Source: the training logs."
            .into(),
        svg: panels(&by_family(&curves, "Noise error"), STEP),
    }));
    section.blocks.push(Block::Table(table));
    Some(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_dit_predicts_what_the_paper_says() {
        let dit = [(6.06, 44.28), (23.01, 27.96), (80.73, 12.59), (118.64, 9.4)];
        let trend = trend(&dit).unwrap();
        assert!((trend.at(6.74) - 42.80).abs() < 0.005, "{}", trend.at(6.74));
    }
}

//! Line charts: panels over one horizontal axis, linear or logarithmic, with the names of many lines beside them.

use super::letters::{self, fit};
use super::looks;
use super::svg::{Anchor, Svg, WIDTH};
use crate::document::number;

/// One panel: one quantity over the steps.
#[derive(Default)]
pub struct Panel<'a> {
    /// What is drawn, with its unit.
    pub title: String,
    /// Whether the vertical axis is logarithmic; values that are not positive are then left out.
    pub log: bool,
    /// Pale line behind the series: the values as they were measured.
    pub raw: &'a [(f64, f64)],
    /// The lines.
    pub series: Vec<Series<'a>>,
    /// A thin dotted line that belongs to no run.
    pub trend: Vec<(f64, f64)>,
    /// Whether every point is marked, with its line's own mark; else a few of each are.
    pub dots: bool,
}

/// One line.
pub struct Series<'a> {
    /// Its name; empty where there is only one.
    pub name: String,
    /// Which of the looks it has.
    pub look: usize,
    /// Its points.
    pub points: &'a [(f64, f64)],
}

/// The horizontal axis of all panels.
#[derive(Clone, Copy)]
pub struct Across<'a> {
    /// What it counts.
    pub title: &'a str,
    /// Whether it is logarithmic.
    pub log: bool,
}

/// A line with its name.
pub type Line = (String, Vec<(f64, f64)>);

impl<'a> Panel<'a> {
    /// A panel of these lines, each with a look of its own.
    pub fn of(title: impl Into<String>, lines: &'a [Line]) -> Self {
        let named = lines.iter().enumerate();
        let series = named.map(|(look, (name, points))| Series { name: name.clone(), look, points });
        Self { title: title.into(), series: series.collect(), ..Self::default() }
    }
}

const LEFT: f64 = 50.0;
const RIGHT: f64 = 18.0;
const TITLE: f64 = 20.0;
const HEIGHT: f64 = 120.0;
/// Height of a panel with several lines.
const TALL: f64 = 170.0;
const GAP: f64 = 14.0;
const AXIS: f64 = 34.0;
/// Points of a raw line at most; each bucket keeps its least and greatest value.
const RAW_POINTS: usize = 600;

/// A name in a legend: its height, the room of its line, and its own at most.
const ROW: f64 = 14.5;
const SWATCH: f64 = 26.0;
const NAME: f64 = 210.0;
/// Marks along a line whose points are not marked each.
const MARKS: usize = 7;
/// Of so few lines each is known by its colour.
const PLAIN: usize = 3;

/// The panels, one below the other.
pub fn panels(panels: &[Panel], across: Across) -> String {
    let mut svg = Svg::default();
    let steps = || panels.iter().flat_map(points).map(|p| p.0).filter(|x| !across.log || *x > 0.0);
    let (x0, x1) = (steps().fold(f64::INFINITY, f64::min), steps().fold(f64::NEG_INFINITY, f64::max));
    let (low, high) = match x1.partial_cmp(&x0) {
        Some(std::cmp::Ordering::Greater) if across.log => (x0 / 1.15, x1 * 1.15),
        Some(std::cmp::Ordering::Greater) => (x0, x1),
        Some(std::cmp::Ordering::Equal) => (x0 * 0.9 - 0.5 * f64::from(!across.log), x0 * 1.1 + 0.5),
        _ => (0.1, 1.0),
    };
    let x_axis = Axis { low, high, from: LEFT, to: WIDTH - RIGHT, log: across.log };
    let mut top = 0.0;
    for (i, panel) in panels.iter().enumerate() {
        let height = draw(&mut svg, panel, &x_axis, top);
        let last = i + 1 == panels.len();
        // The names of many lines may reach further down than the panel; the axis belongs to the panel.
        if last {
            let bottom = top + TITLE + plot_height(panel);
            for x in x_axis.ticks(6) {
                svg.text("soft", (x_axis.at(x), bottom + 14.0), Anchor::Middle, &number(x));
            }
            let title =
                if across.log { format!("{}, logarithmic", across.title) } else { across.title.into() };
            svg.text("soft", ((LEFT + WIDTH - RIGHT) / 2.0, bottom + 29.0), Anchor::Middle, &title);
        }
        top += if last { height.max(TITLE + plot_height(panel) + AXIS) } else { height + GAP };
    }
    let names = panels.iter().flat_map(|p| &p.series).map(|s| name_width(&s.name)).fold(0.0, f64::max);
    svg.finish_wide(if names > 0.0 { WIDTH + SWATCH + names + 8.0 } else { WIDTH }, top)
}

fn name_width(name: &str) -> f64 {
    letters::width(name, letters::SIZE, false).min(NAME)
}

fn plot_height(panel: &Panel) -> f64 {
    if panel.series.len() > 1 { TALL } else { HEIGHT }
}

/// Draws a panel and says how high it is, its names included.
fn draw(svg: &mut Svg, panel: &Panel, x_axis: &Axis, top: f64) -> f64 {
    let bottom = top + TITLE + plot_height(panel);
    let y_axis = y_axis(panel, top + TITLE, bottom);
    let note = if panel.log { "(logarithmic axis)" } else { "" };
    svg.text("title", (LEFT, top + 13.0), Anchor::Start, &panel.title);
    let after = LEFT + letters::width(&panel.title, 11.5, true) + 6.0;
    svg.text("soft", (after, top + 13.0), Anchor::Start, note);
    for y in y_axis.ticks(4) {
        let at = y_axis.at(y);
        svg.line("grid", (LEFT, at), (WIDTH - RIGHT, at));
        svg.text("soft", (LEFT - 5.0, at + 3.5), Anchor::End, &number(y));
    }
    svg.line("frame", (LEFT, bottom), (WIDTH - RIGHT, bottom));
    for x in x_axis.ticks(6) {
        let at = x_axis.at(x);
        svg.line("frame", (at, bottom), (at, bottom + 3.0));
    }
    let place = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        let seen = points.iter().filter(|p| p.1.is_finite() && (!panel.log || p.1 > 0.0));
        seen.map(|&(x, y)| (x_axis.at(x), y_axis.at(y))).collect()
    };
    svg.polyline("raw", "", &place(&thin(panel.raw, RAW_POINTS)));
    svg.polyline("trend", "", &place(&panel.trend));
    for (i, series) in panel.series.iter().enumerate() {
        let (class, dash, marker) = looks::line(series.look);
        let fill = class.replacen('s', "d", 1);
        let placed = place(&thin(series.points, RAW_POINTS));
        svg.polyline(&class, dash, &placed);
        if panel.dots {
            placed.iter().for_each(|&point| svg.marker(&fill, marker, point, 2.6));
        } else if panel.series.len() > PLAIN {
            // Each line's marks stand elsewhere, so that lines that run together do not hide them.
            let every = (placed.len() / MARKS).max(1);
            let first = every * (i % panel.series.len()) / panel.series.len();
            placed.iter().skip(first).step_by(every).for_each(|&p| svg.marker(&fill, marker, p, 2.4));
        }
        if !series.name.is_empty() {
            let (x, y) = (WIDTH - 6.0, top + TITLE + 9.0 + ROW * i as f64);
            svg.polyline(&class, dash, &[(x, y - 3.5), (x + 22.0, y - 3.5)]);
            if panel.dots || panel.series.len() > PLAIN {
                svg.marker(&fill, marker, (x + 11.0, y - 3.5), 2.6);
            }
            svg.text("ink", (x + SWATCH, y), Anchor::Start, &fit(&series.name, letters::SIZE, false, NAME));
        }
    }
    let names = panel.series.iter().filter(|s| !s.name.is_empty()).count();
    TITLE + plot_height(panel).max(ROW * names as f64 + 4.0)
}

fn y_axis(panel: &Panel, top: f64, bottom: f64) -> Axis {
    let seen = || points(panel).map(|p| p.1).filter(|y| y.is_finite() && (!panel.log || *y > 0.0));
    let (mut low, mut high) =
        (seen().fold(f64::INFINITY, f64::min), seen().fold(f64::NEG_INFINITY, f64::max));
    if low > high {
        (low, high) = (if panel.log { 0.1 } else { 0.0 }, 1.0);
    }
    if panel.log {
        (low, high) = (low / 1.08, high * 1.08);
    } else {
        let pad = if high > low { (high - low) * 0.06 } else { low.abs().max(1.0) * 0.1 };
        (low, high) = (low - pad, high + pad);
    }
    Axis { low, high, from: bottom, to: top, log: panel.log }
}

fn points<'a>(panel: &'a Panel) -> impl Iterator<Item = (f64, f64)> + 'a {
    panel.raw.iter().chain(&panel.trend).chain(panel.series.iter().flat_map(|s| s.points)).copied()
}

/// At most `most` points, of every bucket its least and greatest in the order they came.
fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points.to_vec();
    }
    let bucket = points.len().div_ceil(most / 2);
    let mut kept = Vec::with_capacity(most);
    for chunk in points.chunks(bucket) {
        let by = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let ends = (chunk.iter().min_by(by), chunk.iter().max_by(by));
        if let (Some(&low), Some(&high)) = ends {
            kept.extend(if low.0 <= high.0 { [low, high] } else { [high, low] });
        }
    }
    kept
}

/// An axis from values to coordinates.
pub struct Axis {
    /// Least value.
    pub low: f64,
    /// Greatest value.
    pub high: f64,
    /// Coordinate of the least value.
    pub from: f64,
    /// Coordinate of the greatest value.
    pub to: f64,
    /// Whether it is logarithmic.
    pub log: bool,
}

impl Axis {
    /// The coordinate of a value.
    pub fn at(&self, x: f64) -> f64 {
        let f = |x: f64| if self.log { x.ln() } else { x };
        self.from + (self.to - self.from) * (f(x) - f(self.low)) / (f(self.high) - f(self.low))
    }

    /// Round values on the axis, about `wanted` of them.
    pub fn ticks(&self, wanted: usize) -> Vec<f64> {
        if !self.log {
            let step = round_step((self.high - self.low) / wanted as f64);
            let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
            return (first..=last).map(|i| i as f64 * step).map(|x| if x == 0.0 { 0.0 } else { x }).collect();
        }
        let decades = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
        let every = decades.clone().count().div_ceil(wanted + 2).max(1);
        let inside = |steps: &[f64]| -> Vec<f64> {
            let all =
                decades.clone().step_by(every).flat_map(|d| steps.iter().map(move |s| s * 10f64.powi(d)));
            all.filter(|x| (self.low..=self.high).contains(x)).collect()
        };
        let sets: [&[f64]; 3] = [&[1.0], &[1.0, 3.0], &[1.0, 2.0, 5.0]];
        let enough = |set: &&[f64]| inside(set).len() + 1 >= wanted;
        let ticks = inside(sets.iter().copied().find(enough).unwrap_or(sets[2]));
        if ticks.len() >= 3 { ticks } else { Axis { log: false, ..*self }.ticks(wanted) }
    }
}

fn round_step(x: f64) -> f64 {
    let power = 10f64.powi(x.log10().floor() as i32);
    let steps = [1.0, 2.0, 5.0, 10.0];
    power * steps.into_iter().find(|s| s * power >= x * 0.999).unwrap_or(10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(low: f64, high: f64, log: bool) -> Axis {
        Axis { low, high, from: 0.0, to: 100.0, log }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(axis(0.0, 2000.0, false).ticks(6), [0.0, 500.0, 1000.0, 1500.0, 2000.0]);
        assert_eq!(axis(0.01, 100.0, true).ticks(4), [0.01, 0.1, 1.0, 10.0, 100.0]);
        assert_eq!(axis(5.27, 152.0, true).ticks(6), [10.0, 20.0, 50.0, 100.0]);
        let few = axis(0.11, 0.14, true).ticks(4);
        assert!(few.len() >= 3, "{few:?}");
    }

    #[test]
    fn a_log_axis_is_even_in_decades() {
        let a = axis(0.01, 1.0, true);
        assert!((a.at(0.1) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn thinning_keeps_the_spikes() {
        let points: Vec<_> = (0..10_000).map(|i| (f64::from(i), f64::from(i == 7777))).collect();
        let kept = thin(&points, 600);
        assert!(kept.len() <= 600 && kept.contains(&(7777.0, 1.0)));
    }

    #[test]
    fn one_point_and_no_point_draw() {
        for points in [&[][..], &[(5.0, 0.25)][..]] {
            let panel = Panel {
                title: "mse".into(),
                log: true,
                raw: points,
                series: vec![Series { name: String::new(), look: 0, points }],
                ..Panel::default()
            };
            for log in [false, true] {
                let svg = panels(std::slice::from_ref(&panel), Across { title: "step", log });
                assert!(svg.starts_with("<svg") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                assert!(svg.contains("(logarithmic axis)"), "{svg}");
            }
        }
    }
}

//! Line charts: panels over one horizontal axis, linear or logarithmic.

use crate::document::number;
use crate::svg::{Anchor, Svg, WIDTH};

/// One panel: one quantity over the steps.
pub struct Panel<'a> {
    /// What is drawn, with its unit.
    pub title: String,
    /// Whether the vertical axis is logarithmic; values that are not positive are then left out.
    pub log: bool,
    /// Pale line behind the series: the values as they were measured.
    pub raw: &'a [(f64, f64)],
    /// The lines, each with its name (empty when there is only one).
    pub series: Vec<(String, &'a [(f64, f64)])>,
    /// Whether points are marked.
    pub dots: bool,
}

const LEFT: f64 = 46.0;
const RIGHT: f64 = 18.0;
const TITLE: f64 = 20.0;
const HEIGHT: f64 = 120.0;
const GAP: f64 = 14.0;
const AXIS: f64 = 34.0;
/// Points of a raw line at most; each bucket keeps its least and greatest value.
const RAW_POINTS: usize = 600;

/// The panels, one below the other.
pub fn panels(panels: &[Panel], x_label: &str) -> String {
    let mut svg = Svg::default();
    let steps = || panels.iter().flat_map(points).map(|p| p.0);
    let (x0, x1) = (steps().fold(f64::INFINITY, f64::min), steps().fold(f64::NEG_INFINITY, f64::max));
    let (low, high) = match x1.partial_cmp(&x0) {
        Some(std::cmp::Ordering::Greater) => (x0, x1),
        Some(std::cmp::Ordering::Equal) => (x0 - 0.5, x0 + 0.5),
        _ => (0.0, 1.0),
    };
    let x_axis = Axis { low, high, from: LEFT, to: WIDTH - RIGHT, log: false };
    let mut top = 0.0;
    for panel in panels {
        draw(&mut svg, panel, &x_axis, top);
        top += TITLE + HEIGHT + GAP;
    }
    let bottom = top - GAP;
    for x in x_axis.ticks(6) {
        svg.text("", (x_axis.at(x), bottom + 14.0), Anchor::Middle, &number(x));
    }
    svg.text("", ((LEFT + WIDTH - RIGHT) / 2.0, bottom + 29.0), Anchor::Middle, x_label);
    svg.finish(bottom + AXIS)
}

fn draw(svg: &mut Svg, panel: &Panel, x_axis: &Axis, top: f64) {
    let y_axis = y_axis(panel, top + TITLE);
    svg.text("title", (LEFT, top + 13.0), Anchor::Start, &panel.title);
    for y in y_axis.ticks(4) {
        let at = y_axis.at(y);
        svg.line("grid", (LEFT, at), (WIDTH - RIGHT, at));
        svg.text("", (LEFT - 5.0, at + 3.5), Anchor::End, &number(y));
    }
    svg.line("frame", (LEFT, top + TITLE + HEIGHT), (WIDTH - RIGHT, top + TITLE + HEIGHT));
    for x in x_axis.ticks(6) {
        let at = x_axis.at(x);
        svg.line("frame", (at, top + TITLE + HEIGHT), (at, top + TITLE + HEIGHT + 3.0));
    }
    let place = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        let seen = points.iter().filter(|p| p.1.is_finite() && (!panel.log || p.1 > 0.0));
        seen.map(|&(x, y)| (x_axis.at(x), y_axis.at(y))).collect()
    };
    svg.polyline("raw", &place(&thin(panel.raw, RAW_POINTS)));
    for (i, (name, points)) in panel.series.iter().enumerate() {
        let colour = i % 4;
        let dash = if i >= 4 { " dash" } else { "" };
        let placed = place(points);
        svg.polyline(&format!("line s{colour}{dash}"), &placed);
        if panel.dots {
            for &point in &placed {
                svg.circle(&format!("d{colour}"), point, 2.4, "");
            }
        }
        if !name.is_empty() {
            let (x, y) = (WIDTH - RIGHT - 130.0, top + TITLE + 10.0 + 13.0 * i as f64);
            svg.line(&format!("line s{colour}{dash}"), (x, y - 3.5), (x + 16.0, y - 3.5));
            svg.text("", (x + 21.0, y), Anchor::Start, name);
        }
    }
}

fn y_axis(panel: &Panel, top: f64) -> Axis {
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
    Axis { low, high, from: top + HEIGHT, to: top, log: panel.log }
}

fn points(panel: &Panel) -> impl Iterator<Item = (f64, f64)> {
    panel.raw.iter().chain(panel.series.iter().flat_map(|s| s.1)).copied()
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
        let ticks = sets.iter().map(|s| inside(s)).find(|t| t.len() + 1 >= wanted).unwrap_or_default();
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
                series: vec![(String::new(), points)],
                dots: false,
            };
            let svg = panels(&[panel], "step");
            assert!(svg.starts_with("<svg") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}

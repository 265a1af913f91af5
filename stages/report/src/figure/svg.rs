//! Pictures as SVG, written by ourselves: the same numbers give the same bytes.
//!
//! Every shape carries its colours as attributes, which any reader understands, and its class, by which a dark page gives it others.

use super::letters;
use super::looks::{Marker, attributes};
use base64::Engine;
use std::fmt::Write;

/// Width of an ordinary figure, in its own units; the page scales it.
pub const WIDTH: f64 = 520.0;

/// An `<svg>` element under construction.
#[derive(Debug, Default)]
pub struct Svg(String);

/// Where a text is anchored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The text begins here.
    Start,
    /// Its middle is here.
    Middle,
    /// It ends here.
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

impl Svg {
    /// A line of this class.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.polyline(class, "", &[from, to]);
    }

    /// A line through points, with these dashes.
    pub fn polyline(&mut self, class: &str, dashes: &str, points: &[(f64, f64)]) {
        if points.is_empty() {
            return;
        }
        let look = attributes(class);
        self.put(format_args!("<polyline class=\"{class}\" {look} stroke-linejoin=\"round\""));
        if !dashes.is_empty() {
            self.put(format_args!(" stroke-dasharray=\"{dashes}\""));
        }
        self.put(format_args!(" points=\""));
        for (i, (x, y)) in points.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            self.put(format_args!("{space}{},{}", n(*x), n(*y)));
        }
        self.put(format_args!("\"/>"));
    }

    /// A rectangle.
    pub fn rectangle(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        let look = attributes(class);
        self.put(format_args!(
            "<rect class=\"{class}\" {look} x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            n(x),
            n(y),
            n(width),
            n(height)
        ));
    }

    /// A circle; `title` is shown where a pointer rests on it.
    pub fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64, title: &str) {
        let (x, y, radius, look) = (n(x), n(y), n(radius), attributes(class));
        self.put(format_args!("<circle class=\"{class}\" {look} cx=\"{x}\" cy=\"{y}\" r=\"{radius}\""));
        match title {
            "" => self.put(format_args!("/>")),
            _ => self.put(format_args!("><title>{}</title></circle>", escape(title))),
        }
    }

    /// The mark of a point.
    pub fn marker(&mut self, class: &str, marker: Marker, (x, y): (f64, f64), radius: f64) {
        let r = radius;
        let corners: &[(f64, f64)] = match marker {
            Marker::Circle => return self.circle(class, (x, y), r, ""),
            Marker::Square => &[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
            Marker::Up => &[(0.0, -1.2), (1.1, 0.85), (-1.1, 0.85)],
            Marker::Diamond => &[(0.0, -1.3), (1.1, 0.0), (0.0, 1.3), (-1.1, 0.0)],
            Marker::Down => &[(0.0, 1.2), (1.1, -0.85), (-1.1, -0.85)],
        };
        let look = attributes(class);
        let points: Vec<String> =
            corners.iter().map(|(a, b)| format!("{},{}", n(x + a * r), n(y + b * r))).collect();
        self.put(format_args!("<polygon class=\"{class}\" {look} points=\"{}\"/>", points.join(" ")));
    }

    /// A text.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let (look, anchor) = (attributes(class), anchor.name());
        self.put(format_args!(
            "<text class=\"{class}\" {look} x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            n(x),
            n(y),
            escape(text)
        ));
    }

    /// A text that reads upwards, for the axis at the left.
    pub fn upward(&mut self, (x, y): (f64, f64), text: &str) {
        let (x, y, look) = (n(x), n(y), attributes("soft"));
        self.put(format_args!(
            "<text class=\"soft\" {look} transform=\"translate({x} {y}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escape(text)
        ));
    }

    /// A PNG, stretched over a rectangle; `pixels` keeps the edges of its pixels.
    pub fn image(&mut self, pixels: bool, png: &[u8], x: f64, y: f64, width: f64, height: f64) {
        let data = base64::engine::general_purpose::STANDARD.encode(png);
        let rendering = if pixels { " image-rendering=\"optimizeSpeed\" class=\"pixels\"" } else { "" };
        self.put(format_args!(
            "<image{rendering} x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" \
             href=\"data:image/png;base64,{data}\"/>",
            n(x),
            n(y),
            n(width),
            n(height)
        ));
    }

    /// The finished element on a page of its own, [`WIDTH`] wide.
    pub fn finish(self, height: f64) -> String {
        self.finish_wide(WIDTH, height)
    }

    /// The finished element of another width.
    pub fn finish_wide(self, width: f64, height: f64) -> String {
        // A narrow page scrolls what would be too small on it.
        let class = if width > WIDTH { " class=\"legend\"" } else { "" };
        let (width, height) = (n(width.ceil()), n(height.ceil()));
        format!(
            "<svg{class} xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"Inter, system-ui, 'Segoe UI', Roboto, sans-serif\" font-size=\"{}\">\
             <rect class=\"page\" {} width=\"{width}\" height=\"{height}\"/>{}</svg>",
            letters::SIZE,
            attributes("page"),
            self.0
        )
    }

    fn put(&mut self, text: std::fmt::Arguments) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(text);
    }
}

/// Escapes text for HTML and SVG, attributes included.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // No character that XML forbids may reach the page.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A coordinate with two decimals at most.
fn n(x: f64) -> String {
    let text = format!("{x:.2}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

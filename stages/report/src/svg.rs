//! Pictures as SVG, written by ourselves: the same numbers give the same bytes.

use base64::Engine;
use std::fmt::Write;

/// Colours and type of every figure, light and dark; part of the page and of each figure that stands alone.
pub const FIGURE_CSS: &str = include_str!("figure.css");

/// Width of every figure, in its own units; the page scales it.
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

impl Svg {
    /// A line of this class.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.put(format_args!(
            "<line class=\"{class}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
            n(x1),
            n(y1),
            n(x2),
            n(y2)
        ));
    }

    /// A line through points.
    pub fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        if points.is_empty() {
            return;
        }
        self.put(format_args!("<polyline class=\"{class}\" points=\""));
        for (i, (x, y)) in points.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            self.put(format_args!("{space}{},{}", n(*x), n(*y)));
        }
        self.put(format_args!("\"/>"));
    }

    /// A rectangle.
    pub fn rectangle(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        self.put(format_args!(
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            n(x),
            n(y),
            n(width),
            n(height)
        ));
    }

    /// A circle; `title` is shown where a pointer rests on it.
    pub fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64, title: &str) {
        let (x, y, radius) = (n(x), n(y), n(radius));
        self.put(format_args!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\""));
        match title {
            "" => self.put(format_args!("/>")),
            _ => self.put(format_args!("><title>{}</title></circle>", escape(title))),
        }
    }

    /// A text.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            n(x),
            n(y),
            escape(text)
        ));
    }

    /// A text that reads upwards, for the axis at the left.
    pub fn upward(&mut self, (x, y): (f64, f64), text: &str) {
        let (x, y) = (n(x), n(y));
        self.put(format_args!(
            "<text transform=\"translate({x} {y}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escape(text)
        ));
    }

    /// A PNG, stretched over a rectangle.
    pub fn image(&mut self, class: &str, png: &[u8], x: f64, y: f64, width: f64, height: f64) {
        let data = base64::engine::general_purpose::STANDARD.encode(png);
        self.put(format_args!(
            "<image class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" \
             href=\"data:image/png;base64,{data}\"/>",
            n(x), n(y), n(width), n(height)
        ));
    }

    /// The finished element, [`WIDTH`] wide.
    pub fn finish(self, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\">{}</svg>",
            n(WIDTH),
            n(height),
            self.0
        )
    }

    fn put(&mut self, text: std::fmt::Arguments) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(text);
    }
}

/// A figure as a file of its own, with its colours inside.
pub fn standalone(svg: &str) -> String {
    let style = format!("<style>{FIGURE_CSS}svg {{ background: var(--page); }}\n</style>");
    match svg.find('>') {
        Some(end) => format!("{}{style}{}\n", &svg[..=end], &svg[end + 1..]),
        None => svg.into(),
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

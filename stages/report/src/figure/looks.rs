//! What the parts of a figure look like: attributes for every reader of SVG, and what a dark page puts over them.

use std::fmt::Write;

/// A class of shapes.
struct Look {
    class: &'static str,
    /// Presentation attributes, written at every shape: they need no style sheet.
    attributes: &'static str,
    /// Declarations of a dark page.
    dark: &'static str,
}

const fn look(class: &'static str, attributes: &'static str, dark: &'static str) -> Look {
    Look { class, attributes, dark }
}

/// All but the lines of a chart, which have [`PALETTE`].
#[rustfmt::skip]
const LOOKS: [Look; 14] = [
    look("page",   r##"fill="#ffffff""##, "fill: #14171a"),
    look("soft",   r##"fill="#545a61""##, "fill: #a3aab2"),
    look("ink",    r##"fill="#1c2024""##, "fill: #e6e8ea"),
    look("strong", r##"fill="#1c2024" font-weight="600""##, "fill: #e6e8ea"),
    look("title",  r##"fill="#1c2024" font-weight="600" font-size="11.5""##, "fill: #e6e8ea"),
    look("grid",   r##"fill="none" stroke="#dcdfe3" stroke-width="0.7""##, "stroke: #343a41"),
    look("frame",  r##"fill="none" stroke="#60666d" stroke-width="0.7""##, "stroke: #9aa1a9"),
    look("rule",   r##"fill="none" stroke="#1c2024" stroke-width="1.1""##, "stroke: #e6e8ea"),
    look("raw",    r##"fill="none" stroke="#b4cfef" stroke-width="0.8""##, "stroke: #2c4a6d"),
    look("trend",  r##"fill="none" stroke="#60666d" stroke-width="1.1" stroke-dasharray="1.5 3""##, "stroke: #9aa1a9"),
    look("link",   r##"fill="none" stroke="#b1cdef" stroke-width="1.1""##, "stroke: #2f4a6a"),
    look("kept",   r##"fill="#1f6fd0""##, "fill: #6aa5f0"),
    look("shared", r##"fill="#b4610a""##, "fill: #f0954a"),
    look("off",    r##"fill="#dcdfe3""##, "fill: #343a41"),
];

/// Fifteen colours that are told apart on a light page, and their like for a dark one.
pub const PALETTE: [(&str, &str); 15] = [
    ("#1f6fd0", "#6aa5f0"),
    ("#b4610a", "#f0954a"),
    ("#2c7a4b", "#4fb87c"),
    ("#8a3f8f", "#c98bce"),
    ("#c8283c", "#f0626f"),
    ("#0b8f9c", "#3cc3cf"),
    ("#6f4326", "#b08a66"),
    ("#d6479a", "#f573b8"),
    ("#757a00", "#a9ad2e"),
    ("#4d5a68", "#8c9cae"),
    ("#4795d8", "#a5d2fa"),
    ("#c08a00", "#ecc14a"),
    ("#55a325", "#a0dc72"),
    ("#6a4fe0", "#a08cff"),
    ("#e5705f", "#ffb0a0"),
];

/// Dashes and markers change before they come again together, so that lines are told apart without colour as well.
const DASHES: [&str; 3] = ["", "6 3", "1.6 2.6"];

/// The mark of a line's points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Circle,
    /// A square on its side.
    Square,
    /// A triangle that points up.
    Up,
    /// A square on its corner.
    Diamond,
    /// A triangle that points down.
    Down,
}

const MARKERS: [Marker; 5] = [Marker::Circle, Marker::Square, Marker::Up, Marker::Diamond, Marker::Down];

/// How the line of this number is drawn: class, dashes, marker.
pub fn line(number: usize) -> (String, &'static str, Marker) {
    let dash = DASHES[number / MARKERS.len() % DASHES.len()];
    (format!("s{}", number % PALETTE.len()), dash, MARKERS[number % MARKERS.len()])
}

/// The presentation attributes of a class.
///
/// # Panics
/// When there is no such class.
pub fn attributes(class: &str) -> String {
    let colour = |digits: &str| PALETTE[digits.parse::<usize>().unwrap_or(0) % PALETTE.len()].0;
    if let Some(look) = LOOKS.iter().find(|l| l.class == class) {
        return look.attributes.into();
    }
    match class.split_at(1) {
        ("s", digits) => format!("fill=\"none\" stroke=\"{}\" stroke-width=\"1.7\"", colour(digits)),
        (_, digits) => format!("fill=\"{}\"", colour(digits)),
    }
}

/// What a dark page says of all classes.
pub fn dark_css() -> String {
    let mut css = String::new();
    for look in &LOOKS {
        let _ = write!(css, " svg .{} {{ {} }}", look.class, look.dark);
    }
    for (i, (_, dark)) in PALETTE.iter().enumerate() {
        let _ = write!(css, " svg .s{i} {{ stroke: {dark} }} svg .d{i} {{ fill: {dark} }}");
    }
    css
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(hex: &str) -> [f64; 3] {
        [1, 3, 5].map(|i| {
            let c = f64::from(u8::from_str_radix(&hex[i..i + 2], 16).unwrap()) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        })
    }

    fn luminance(hex: &str) -> f64 {
        let [r, g, b] = linear(hex);
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    /// CIE 1976 L*a*b*, whose distances are about those that an eye sees.
    fn lab(hex: &str) -> [f64; 3] {
        let [r, g, b] = linear(hex);
        let x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047;
        let z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883;
        let [x, y, z] = [x, luminance(hex), z].map(f64::cbrt);
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    #[test]
    fn fifteen_lines_are_told_apart_on_both_pages() {
        for (page, colours) in [("#ffffff", PALETTE.map(|p| p.0)), ("#14171a", PALETTE.map(|p| p.1))] {
            for (i, a) in colours.iter().enumerate() {
                let contrast = (luminance(a) + 0.05) / (luminance(page) + 0.05);
                assert!(contrast.max(1.0 / contrast) >= 3.0, "{a} on {page}: {contrast}");
                for b in &colours[..i] {
                    let distance: f64 = lab(a).iter().zip(lab(b)).map(|(a, b)| (a - b).powi(2)).sum();
                    assert!(distance.sqrt() > 20.0, "{a} and {b} are {} apart", distance.sqrt());
                }
            }
        }
        let drawn: std::collections::BTreeSet<String> =
            (0..15).map(|i| format!("{:?}", (line(i).1, line(i).2))).collect();
        assert_eq!(drawn.len(), 15, "dashes and markers alone tell fifteen lines apart");
    }

    #[test]
    fn every_class_has_a_dark_form() {
        let css = dark_css();
        for class in LOOKS.iter().map(|l| l.class.to_string()).chain((0..15).map(|i| format!("s{i}"))) {
            assert!(css.contains(&format!("svg .{class} {{")), "{class}");
            assert!(attributes(&class).contains('#'), "{class}");
        }
    }
}

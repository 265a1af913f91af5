//! How wide a text is in the figures' own type.

use std::sync::LazyLock;
use ttf_parser::Face;

/// Inter, as it lies in every figure that stands alone.
pub const FONTS: [&[u8]; 2] =
    [include_bytes!("../../fonts/Inter-Regular.otf"), include_bytes!("../../fonts/Inter-SemiBold.otf")];

/// Size of ordinary text, in a figure's units.
pub const SIZE: f64 = 10.5;

static FACES: LazyLock<[Option<Face>; 2]> = LazyLock::new(|| FONTS.map(|font| Face::parse(font, 0).ok()));

/// The width of a text of this size.
pub fn width(text: &str, size: f64, bold: bool) -> f64 {
    let Some(face) = &FACES[usize::from(bold)] else { return text.chars().count() as f64 * size * 0.6 };
    let em = f64::from(face.units_per_em());
    // What the type lacks is as wide as an M here, and a box there.
    let advance =
        |c: char| face.glyph_index(c).and_then(|g| face.glyph_hor_advance(g)).map_or(0.9 * em, f64::from);
    text.chars().map(advance).sum::<f64>() / em * size
}

/// The text, cut with an ellipsis where it is wider than `most`.
pub fn fit(text: &str, size: f64, bold: bool, most: f64) -> String {
    if width(text, size, bold) <= most {
        return text.into();
    }
    let mut cut: String = text.into();
    while !cut.is_empty() && width(&cut, size, bold) + size > most {
        cut.pop();
    }
    format!("{}…", cut.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_there_and_its_digits_are_of_one_width() {
        assert!(FACES.iter().all(Option::is_some));
        let all: Vec<f64> = (0..10).map(|d| width(&d.to_string(), 10.0, false)).collect();
        assert!(all.iter().all(|w| *w == all[0] && (5.0..8.0).contains(w)), "{all:?}");
        for c in "−±×·∞λ↓↑≤\u{202f}–’éжα".chars() {
            assert!(FACES[0].as_ref().unwrap().glyph_index(c).is_some(), "{c}");
        }
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(fit("short", 10.0, false, 100.0), "short");
        let cut = fit("Gating: noisy top-k and load balancing", 10.0, false, 100.0);
        assert!(cut.ends_with('…') && width(&cut, 10.0, false) <= 100.0, "{cut}");
    }
}

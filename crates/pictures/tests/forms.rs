//! The forms a picture may come in, against what Pillow makes of them (tests/pillow/forms.py).

#![expect(clippy::unwrap_used, reason = "a test whose set-up fails has failed")]

use pictures::{Rgb, center_crop, decode};
use std::path::Path;

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pillow/forms").join(name)).unwrap()
}

fn read(name: &str) -> Rgb {
    decode(&bytes(name)).unwrap_or_else(|e| panic!("{name}: {e:#}"))
}

fn names(key: &str) -> Vec<String> {
    let described: serde_json::Value = serde_json::from_str(include_str!("pillow/forms.json")).unwrap();
    described[key].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_string()).collect()
}

/// Of a JPEG file two decoders make slightly different pixels: they interpolate halved colours and round transforms in
/// their own ways. Measured over these forms: at most 4 levels, 0.40 on average, against libjpeg-turbo 3.2.0.
const JPEG: (u8, f64) = (5, 0.5);
/// Of 5 or 6 bits Pillow makes 8 by rounding down, the decoder to the nearest.
const FIVE_BITS: (u8, f64) = (1, 0.5);

#[test]
fn every_form_decodes_as_pillow_does() {
    let mut faults = Vec::new();
    for name in names("forms") {
        let want = read(&format!("{name}.rgb.png"));
        let got = match decode(&bytes(&name)) {
            Ok(got) if (got.width, got.height) == (want.width, want.height) => got,
            Ok(got) => {
                faults.push(format!("{name}: {} × {}", got.width, got.height));
                continue;
            }
            Err(e) => {
                faults.push(format!("{name}: {e:#}"));
                continue;
            }
        };
        let off: Vec<u8> = got.pixels.iter().zip(&want.pixels).map(|(a, b)| a.abs_diff(*b)).collect();
        let worst = *off.iter().max().unwrap();
        let mean = off.iter().map(|&d| f64::from(d)).sum::<f64>() / off.len() as f64;
        let (most, average) = match name.as_str() {
            jpeg if jpeg.ends_with(".jpg") => JPEG,
            "555.bmp" | "565.bmp" => FIVE_BITS,
            _ => (0, 0.0),
        };
        if worst > most || mean > average {
            faults.push(format!("{name}: off by up to {worst}, {mean:.3} on average"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_not_read_says_so() {
    for name in names("unread") {
        let error = format!("{:#}", decode(&bytes(&name)).unwrap_err());
        assert!(error.contains("unsupported") || error.contains("which is not read"), "{name}: {error}");
    }
}

#[test]
fn what_pillow_refuses_is_refused() {
    for name in names("broken") {
        assert!(decode(&bytes(&name)).is_err(), "{name} was read");
    }
}

#[test]
fn huge_pictures_are_cropped_and_impossible_ones_refused() {
    let mut png = bytes("grey.png");
    // A header that promises more pixels than any picture of a dataset has: refused before memory is taken.
    png[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    assert!(decode(&png).is_err());

    let (width, height) = (7001, 4003);
    let pixels = (0..width * height).flat_map(|i| if i % width < width / 2 { [200; 3] } else { [30; 3] });
    let crop = center_crop(&Rgb { width, height, pixels: pixels.collect() }, 64);
    let row: Vec<u8> = crop.pixels[..3 * 64].chunks(3).map(|p| p[0]).collect();
    assert_eq!((row[0], row[20], row[43], row[63]), (200, 200, 30, 30));
}

//! The centre crop against Pillow's own (tests/pillow/make.py), bit for bit.

#![expect(clippy::unwrap_used, reason = "a test whose set-up fails has failed")]

use pictures::{Rgb, center_crop, decode};
use std::path::Path;

fn read(name: &str) -> Rgb {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pillow").join(name);
    decode(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn crops_are_pillows() {
    let text = include_str!("pillow/crops.json");
    let described: serde_json::Value = serde_json::from_str(text).unwrap();
    for (i, case) in described["crops"].as_array().unwrap().iter().enumerate() {
        let size = case["size"].as_u64().unwrap() as usize;
        let original = read(&format!("{i:02}.png"));
        let got = center_crop(&original, size);
        let want = read(&format!("{i:02}.crop.png"));
        assert_eq!((got.width, got.height), (want.width, want.height), "{case}");
        let worst = got.pixels.iter().zip(&want.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert_eq!(worst, 0, "{case}");
    }
}

#[test]
fn a_mirror_swaps_columns_only() {
    let original = read("02.png");
    let mirrored = original.mirrored();
    assert_eq!(mirrored.mirrored(), original);
    let pixel = |p: &Rgb, x: usize, y: usize| p.pixels[3 * (y * p.width + x)..][..3].to_vec();
    assert_eq!(pixel(&original, 5, 7), pixel(&mirrored, original.width - 6, 7));
}

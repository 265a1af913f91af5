//! Pictures of NumPy archives as PNG, which browsers show.

use npz::Npz;
use png::{BitDepth, ColorType, Encoder};
use std::path::Path;

/// So many pictures a sheet has, and so many in a row of it.
const SHEET: usize = 64;
const ACROSS: usize = 8;
/// No picture has more pixels; a claim is no reason to take memory.
const PIXELS: usize = 1 << 24;
/// Skipped bytes at most: pictures lie one after another, packed.
const SKIPPED: u64 = 4 << 30;

/// What an archive holds of pictures: how many, their height and width.
pub fn shape(path: &Path) -> Option<[usize; 3]> {
    let mut archive = Npz::open(path).ok()?;
    let [count, height, width] = npz::picture_shape(&mut archive).ok()?;
    (height.checked_mul(width)? <= PIXELS && count > 0).then_some([count, height, width])
}

/// The first pictures on one sheet.
pub fn sheet(path: &Path) -> Option<Vec<u8>> {
    let [count, height, width] = shape(path)?;
    let shown = count.min(SHEET);
    let (across, down) = (shown.min(ACROSS), shown.div_ceil(ACROSS));
    let (columns, rows) = (across * width, down * height);
    if columns.checked_mul(rows)? > 4 * PIXELS {
        return one(path, 0);
    }
    let mut archive = Npz::open(path).ok()?;
    let (mut array, _) = npz::pictures(&mut archive).ok()?;
    let mut pixels = vec![255; columns * rows * 3];
    for picture in 0..shown {
        let bytes = array.read(height * width * 3).ok()?;
        let corner = (picture / ACROSS * height * columns + picture % ACROSS * width) * 3;
        for (row, line) in bytes.chunks_exact(width * 3).enumerate() {
            let at = corner + row * columns * 3;
            pixels[at..at + width * 3].copy_from_slice(line);
        }
    }
    encode(columns, rows, &pixels)
}

/// One picture.
pub fn one(path: &Path, place: usize) -> Option<Vec<u8>> {
    let [count, height, width] = shape(path)?;
    let bytes = height * width * 3;
    let before = (place as u64).checked_mul(bytes as u64)?;
    if place >= count || before > SKIPPED {
        return None;
    }
    let mut archive = Npz::open(path).ok()?;
    let (mut array, _) = npz::pictures(&mut archive).ok()?;
    array.skip(before).ok()?;
    encode(width, height, &array.read(bytes).ok()?)
}

fn encode(width: usize, height: usize, pixels: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, width.try_into().ok()?, height.try_into().ok()?);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.write_header().ok()?.write_image_data(pixels).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use npz::Writer;

    #[test]
    fn pictures_of_an_archive_are_png() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.npz");
        let mut writer = Writer::create(&path).unwrap();
        writer.start("arr_0", "|u1", &[10, 2, 3, 3]).unwrap();
        writer.values(&(0..180).collect::<Vec<u8>>()).unwrap();
        writer.finish().unwrap();
        assert_eq!(shape(&path), Some([10, 2, 3]));
        let decoded = |bytes: Vec<u8>| {
            let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut pixels).unwrap();
            (info.width, info.height, pixels)
        };
        assert_eq!(decoded(one(&path, 9).unwrap()), (3, 2, (162..180).collect()));
        assert!(one(&path, 10).is_none() && one(&path, usize::MAX).is_none());
        let (width, height, pixels) = decoded(sheet(&path).unwrap());
        assert_eq!((width, height), (24, 4));
        assert_eq!(pixels[2 * 24 * 3..][..9], (144..153).collect::<Vec<u8>>());
        assert_eq!(pixels[pixels.len() - 1], 255, "where there is none");
    }
}

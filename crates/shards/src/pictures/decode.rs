//! Bytes of a PNG, JPEG or WebP file to 8-bit RGB, as Pillow's `convert("RGB")` gives it.

use super::{Rgb, jpeg};
use anyhow::{Result, bail, ensure};
use image::{ColorType, DynamicImage, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// Longest side; Pillow refuses pictures of twice 89 million pixels as decompression bombs.
const MAX_SIDE: u32 = 32_768;
/// Most memory the decoder may take.
const MAX_BYTES: u64 = 2 << 30;

/// Decodes a picture.
///
/// Reference behaviour (`torchvision`'s `ImageFolder`): transparency is dropped, grey is repeated, palettes are looked up,
/// of 16 bits the upper 8 count (but 16-bit grey is clipped at 255), and the orientation in EXIF data is not applied.
///
/// # Errors
/// When the bytes are no picture of these formats, or a damaged one.
pub fn decode(bytes: &[u8]) -> Result<Rgb> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let Some(format) = reader.format() else { bail!("not a picture (neither PNG, JPEG nor WebP)") };
    if format == ImageFormat::Jpeg {
        jpeg::check_whole(bytes)?;
    }
    let picture = reader.decode()?;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    ensure!(width > 0 && height > 0, "a picture without pixels");
    // The colour type in a PNG's header: grey may have got its transparency from a key colour.
    let grey = format == ImageFormat::Png && bytes.get(25) == Some(&0);
    Ok(Rgb { width, height, pixels: rgb(picture, grey) })
}

fn rgb(picture: DynamicImage, plain_grey: bool) -> Vec<u8> {
    let upper = |pixels: Vec<u16>| pixels.into_iter().map(|v| (v >> 8) as u8).collect::<Vec<u8>>();
    // Pillow's mode I;16, whose conversion clips.
    let clipped = |pixels: Vec<u16>| pixels.into_iter().map(|v| v.min(255) as u8).collect::<Vec<u8>>();
    match picture {
        DynamicImage::ImageRgb16(p) => upper(p.into_raw()),
        DynamicImage::ImageRgba16(p) => opaque(&upper(p.into_raw())),
        DynamicImage::ImageLuma16(p) => grey(&clipped(p.into_raw()), 1),
        DynamicImage::ImageLumaA16(p) if plain_grey => grey(&clipped(p.into_raw()), 2),
        DynamicImage::ImageLumaA16(p) => grey(&upper(p.into_raw()), 2),
        p if p.color() == ColorType::Rgba8 => opaque(p.as_bytes()),
        p => p.into_rgb8().into_raw(),
    }
}

fn opaque(rgba: &[u8]) -> Vec<u8> {
    rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect()
}

fn grey(pixels: &[u8], channels: usize) -> Vec<u8> {
    pixels.chunks_exact(channels).flat_map(|p| [p[0]; 3]).collect()
}

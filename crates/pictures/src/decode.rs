//! Bytes of a picture file to 8-bit RGB, as Pillow's `convert("RGB")` gives it.

use crate::rgb::Rgb;
use crate::{form, jpeg, png};
use anyhow::{Result, anyhow, bail, ensure};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::borrow::Cow;
use std::io::Cursor;

/// Most pixels of a picture: where Pillow begins to warn of decompression bombs.
pub const MAX_PIXELS: u64 = 89_478_485;
/// Longest side.
const MAX_SIDE: u32 = 32_768;
/// Most bytes of an encoded picture.
pub const MAX_BYTES: u64 = 1 << 30;
/// Memory that a decoder may take beside the pixels, for tables and the like.
const BESIDE: u64 = 64 << 20;

/// Decodes a PNG, JPEG, WebP, TIFF, BMP, GIF or PNM file; of an animation the first frame.
///
/// Reference behaviour (`torchvision`'s `ImageFolder`): transparency is dropped, grey is repeated, palettes are looked up,
/// of 16 bits the upper 8 count (but 16-bit grey is clipped at 255), and the orientation in EXIF data is not applied, that of a
/// TIFF file is.
///
/// # Errors
/// When the bytes are no picture of these forms, a damaged one, or one of more than [`MAX_PIXELS`], which is found before
/// memory is taken for them.
pub fn decode(bytes: &[u8]) -> Result<Rgb> {
    let Some(format) = form::format(bytes) else { bail!(form::refusal(bytes)) };
    ensure!(bytes.len() as u64 <= MAX_BYTES, "{} bytes are more than a picture has", bytes.len());
    let content = match format {
        ImageFormat::Png => png::pixels_only(bytes),
        _ => Cow::Borrowed(bytes),
    };
    if format == ImageFormat::Jpeg {
        jpeg::check_whole(bytes)?;
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(BESIDE);
    let mut reader = ImageReader::with_format(Cursor::new(&*content), format);
    reader.limits(limits.clone());
    // An image error says its cause itself.
    let said = |e: image::ImageError| anyhow!("{e}");
    let mut decoder = reader.into_decoder().map_err(said)?;
    let (width, height) = decoder.dimensions();
    ensure!(width > 0 && height > 0, "a picture without pixels");
    ensure!(
        u64::from(width) * u64::from(height) <= MAX_PIXELS && width.max(height) <= MAX_SIDE,
        "{width} × {height} pixels, more than the {MAX_PIXELS} in all or {MAX_SIDE} on a side that a picture may have; \
         scale it down"
    );
    limits.max_alloc = Some(decoder.total_bytes() + BESIDE);
    decoder.set_limits(limits).map_err(said)?;
    let turned = match format {
        ImageFormat::Tiff => decoder.orientation().map_err(said)?,
        _ => Orientation::NoTransforms,
    };
    let mut picture = DynamicImage::from_decoder(decoder).map_err(said)?;
    picture.apply_orientation(turned);
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    // The colour type in a PNG's header: grey may have got its transparency from a key colour.
    let grey = format == ImageFormat::Png && bytes.get(25) == Some(&0);
    let pixels = match picture {
        // Pillow brings each number to 8 bits, in place of the upper 8.
        DynamicImage::ImageRgb16(p) if format == ImageFormat::Pnm => {
            p.into_raw().into_iter().map(|v| ((u32::from(v) + 128) / 257) as u8).collect()
        }
        other => rgb(other, grey),
    };
    Ok(Rgb { width, height, pixels })
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

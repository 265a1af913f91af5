//! Takes from a PNG file what is no pixel before it is decoded: a compressed colour profile or comment of some megabytes can
//! stand for gigabytes.

use std::borrow::Cow;

/// Chunks that say nothing of the pixels.
const BESIDE: [&[u8; 4]; 5] = [b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"eXIf"];

/// The file without profiles and comments; what is no sequence of chunks stays as it is, for the decoder to refuse.
pub(crate) fn pixels_only(png: &[u8]) -> Cow<'_, [u8]> {
    let mut kept: Vec<&[u8]> = vec![&png[..png.len().min(8)]];
    let mut rest = png.get(8..).unwrap_or_default();
    let mut dropped = false;
    while let Some(length) = rest.first_chunk::<4>() {
        // Length, kind, content and checksum.
        let end = (u32::from_be_bytes(*length) as usize).saturating_add(12);
        if end > rest.len() {
            break;
        }
        let (chunk, after) = rest.split_at(end);
        let beside = BESIDE.iter().any(|kind| chunk[4..8] == **kind);
        dropped |= beside;
        if !beside {
            kept.push(chunk);
        }
        rest = after;
    }
    if !dropped {
        return Cow::Borrowed(png);
    }
    kept.push(rest);
    Cow::Owned(kept.concat())
}

//! Whether a JPEG file is all there. The decoder fills what is missing with grey; Pillow refuses such a file.

use anyhow::{Result, bail};

/// Walks the markers of a JPEG file up to the one that ends it.
///
/// # Errors
/// When the end is missing: the file was cut short.
pub fn check_whole(bytes: &[u8]) -> Result<()> {
    let mut at = 2;
    loop {
        // In the coded data, 0xFF before 0x00 is a number, and restart markers (0xD0 to 0xD7) belong to it.
        let Some(next) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xff)) else {
            bail!("the JPEG file is cut short after {} bytes", bytes.len())
        };
        at += next + 1;
        match bytes.get(at) {
            Some(0xd9) => return Ok(()),
            // Padding, stuffing, and markers without a length.
            Some(0xff | 0x00 | 0x01 | 0xd0..=0xd8) | None => {}
            Some(_) => {
                let length = bytes.get(at + 1..at + 3).map_or(0, |l| u16::from_be_bytes([l[0], l[1]]));
                at += 1 + usize::from(length);
            }
        }
    }
}

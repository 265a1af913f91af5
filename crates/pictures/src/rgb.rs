//! Pixels.

/// 8-bit RGB, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[H, W, 3]`.
    pub pixels: Vec<u8>,
}

impl Rgb {
    /// The same picture seen in a mirror.
    pub fn mirrored(&self) -> Self {
        let rows = self.pixels.chunks_exact(3 * self.width);
        let pixels = rows.flat_map(|row| row.rchunks_exact(3).flatten().copied()).collect();
        Self { pixels, ..*self }
    }
}

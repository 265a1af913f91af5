//! Pictures: the Parquet files that hold them, decoding, and the crop that ADM, DiT and Switch-DiT train on.

mod crop;
mod decode;
mod files;
mod jpeg;
mod resample;
mod writer;

pub use crop::center_crop;
pub use decode::decode;
pub use files::{File, Layout, Manifest, Picture, Pictures, read_parquet};
pub use resample::{Filter, resize};
pub use writer::PicturesWriter;

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

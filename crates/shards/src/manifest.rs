//! `manifest.json` of a folder of latents: what they are, and the digest of every part of every file.

use latents::{ChannelStatistics, ChannelSums, LatentSpace};
use serde::{Deserialize, Serialize};

/// The manifest's file name.
pub const FILE: &str = "manifest.json";
/// Version 1: as described here.
pub const VERSION: u32 = 1;

/// A folder of shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this layout.
    pub version: u32,
    /// Rows in all shards together.
    pub rows: usize,
    /// What every row holds.
    pub latents: LatentsMetadata,
    /// The files, in the order of their rows.
    pub shards: Vec<Shard>,
}

/// What the rows of a folder hold; also in the metadata of each file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentsMetadata {
    /// `[C, H, W]` of one latent.
    pub shape: [usize; 3],
    /// How a number is stored: `float16`, little-endian, row-major.
    pub dtype: String,
    /// What a sample is multiplied by before a diffusion model sees it; the stored moments are not scaled.
    pub scale: f64,
    /// What is taken from it before.
    #[serde(default, skip_serializing_if = "latents::is_zero")]
    pub shift: f64,
    /// The channels' own statistics, which stand in for the shift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<ChannelStatistics>,
    /// Which autoencoder it is: a digest of its tensors, or in older folders BLAKE3 of its file.
    pub vae: String,
    /// Number of classes; labels are below it. 1 where the pictures have no labels.
    pub classes: usize,
    /// Names of the classes, in the order of their numbers; empty where they are not named, or each by its number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// Side of the encoded pictures, in pixels.
    pub image_size: usize,
    /// Whether the moments of the mirrored picture stand beside those of the picture.
    pub flipped: bool,
}

impl LatentsMetadata {
    /// How the latents are moved and scaled, and what made them.
    pub fn space(&self) -> LatentSpace {
        LatentSpace {
            scale: self.scale,
            shift: self.shift,
            channels: self.channels.clone(),
            vae: self.vae.clone(),
        }
    }

    /// Numbers in one latent.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of one stored latent.
    pub fn width(&self) -> usize {
        2 * self.numel()
    }

    /// The columns of moments, in the order they are stored.
    pub fn columns(&self) -> &'static [&'static str] {
        let all = &["mean", "std", "mean_flipped", "std_flipped"];
        if self.flipped { all } else { &all[..2] }
    }
}

/// One file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Its name in the folder.
    pub path: String,
    /// Rows.
    pub rows: usize,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the whole file.
    pub blake3: String,
    /// Its row groups, in order; the first begins right after the four bytes of Parquet's mark.
    pub row_groups: Vec<RowGroup>,
    /// BLAKE3 of the column of labels alone, as little-endian 64-bit integers: they are read long before the moments.
    pub labels: String,
    /// Sums over its channels, where the folder has their statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sums: Option<ChannelSums>,
    /// Everything behind the last row group.
    pub footer: Section,
}

/// A row group: the least that is verified at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowGroup {
    /// Rows.
    pub rows: usize,
    /// First byte in the file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// BLAKE3 of these bytes.
    pub blake3: String,
}

/// A range of bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// First byte in the file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// BLAKE3 of these bytes.
    pub blake3: String,
}

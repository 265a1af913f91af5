//! What `encode` leaves behind, by which it knows an earlier output of its own.

use anyhow::Result;
use shards::Manifest;
use stage::Layout;
use std::fs;
use std::path::{Path, PathBuf};

/// `--latents`.
pub const LATENTS: Layout = Layout { files: &["manifest.json", "#.parquet"], check: first_unlisted };

/// What one of several processes has made: its shards, and the batches of those that it shares with others.
pub const PART: Layout =
    Layout { files: &["manifest.json", "#.parquet", "#.batches"], check: first_unlisted };

/// What it can go on from: finished shards, and of several processes what each has made.
pub const STATE: Layout = Layout::of(&[
    "made-by",
    "work.json",
    "#.parquet",
    "#.parquet.json",
    "#.batches",
    "rank-#-of-#/work.json",
    "rank-#-of-#/#.parquet",
    "rank-#-of-#/#.parquet.json",
    "rank-#-of-#/#.batches",
    "parts-of-#/#/manifest.json",
    "parts-of-#/#/#.parquet",
    "parts-of-#/#/#.batches",
]);

/// The first shard that the folder's manifest does not list as it is.
fn first_unlisted(folder: &Path) -> Result<Option<PathBuf>> {
    let Ok(manifest) = stage::read_json::<Manifest>(&folder.join("manifest.json")) else {
        return Ok(Some("manifest.json".into()));
    };
    let mut names: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into())).collect::<Result<_>>()?;
    names.sort();
    let listed = |name: &Path| {
        let bytes = fs::metadata(folder.join(name)).map_or(0, |there| there.len());
        manifest.shards.iter().any(|shard| Path::new(&shard.path) == name && shard.bytes == bytes)
    };
    Ok(names.into_iter().find(|name| name.extension().is_some_and(|e| e == "parquet") && !listed(name)))
}

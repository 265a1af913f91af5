//! What `download` leaves behind, by which it knows an earlier output of its own.

use anyhow::Result;
use pictures::Manifest;
use stage::Layout;
use std::fs;
use std::path::{Path, PathBuf};

/// `--images`.
pub const IMAGES: Layout = Layout { files: &["manifest.json", "data/#.parquet"], check: first_unlisted };
/// What it can go on from: the first part of a file of weights.
pub const STATE: Layout = Layout::of(&["made-by", "weights.part", "weights.etag"]);

/// The first file that the folder's manifest does not list as it is.
fn first_unlisted(folder: &Path) -> Result<Option<PathBuf>> {
    let Ok(manifest) = stage::read_json::<Manifest>(&folder.join("manifest.json")) else {
        return Ok(Some("manifest.json".into()));
    };
    let data = Path::new("data");
    let entries = fs::read_dir(folder.join(data));
    let mut paths: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .map(|entry| Ok(data.join(entry?.file_name())))
        .collect::<Result<_>>()?;
    paths.sort();
    let listed = |path: &Path| {
        let bytes = fs::metadata(folder.join(path)).map_or(0, |there| there.len());
        manifest.files.iter().any(|file| Path::new(&file.path) == path && file.bytes == bytes)
    };
    Ok(paths.into_iter().find(|path| !listed(path)))
}

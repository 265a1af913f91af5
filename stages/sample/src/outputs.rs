//! What `sample` leaves behind, by which it knows an earlier output of its own.

use anyhow::Result;
use npz::Npz;
use stage::Layout;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// `--samples`.
pub const SAMPLES: Layout = Layout { files: &["samples.npz", "images/#.png"], check: first_surplus };

/// What it can go on from: finished batches, and of several processes what each has made.
pub const STATE: Layout = Layout::of(&[
    "made-by",
    "sampling.json",
    "parts/#.rgb",
    "images/#.png",
    "rank-#-of-#/sampling.json",
    "rank-#-of-#/parts/#.rgb",
    "rank-#-of-#/images/#.png",
    "parts-of-#/#/samples.npz",
    "parts-of-#/#/images/#.png",
]);

/// The name of a picture's file.
pub fn picture(image: usize) -> String {
    format!("{image:06}.png")
}

/// The first picture that is not among those of `samples.npz`, which are numbered in a row.
fn first_surplus(folder: &Path) -> Result<Option<PathBuf>> {
    let archive = folder.join("samples.npz");
    let shape = |name: &str| {
        let shape = Npz::open(&archive).and_then(|mut npz| Ok(npz.array(name)?.header.shape));
        shape.unwrap_or_default()
    };
    let (&[count, _, _, 3], &[labels]) = (&shape("arr_0")[..], &shape("arr_1")[..]) else {
        return Ok(Some("samples.npz".into()));
    };
    if count != labels {
        return Ok(Some("samples.npz".into()));
    }
    let images = folder.join("images");
    let entries = if images.exists() { fs::read_dir(&images)?.collect() } else { Vec::new() };
    let names: BTreeSet<OsString> =
        entries.into_iter().map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    let number = |name: &OsString| name.to_str()?.strip_suffix(".png")?.parse::<usize>().ok();
    let first = names.first().and_then(number).unwrap_or(0);
    let ours = |name: &OsString| {
        number(name).is_some_and(|n| (first..first + count).contains(&n) && *name == *picture(n))
    };
    Ok(names.iter().find(|name| !ours(name)).map(|name| Path::new("images").join(name)))
}

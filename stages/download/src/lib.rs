//! Brings pictures from where they are into one layout: Parquet files and a manifest of their digests, every picture checked.

mod normalise;
mod source;

use anyhow::Result;
use normalise::{Found, Normaliser};
use shards::pictures::Manifest;
use source::{Labels, Source};
use stage::{Context, Staged, bad_input, write_json};
use std::path::PathBuf;

stage::arguments! {
    /// Check a dataset and lay it out the way the other stages read it.
    ///
    /// Reads Parquet files with a column `image` (as datasets on the Hugging Face Hub have them), a folder with one folder of
    /// pictures per class, or a folder of pictures. Every picture is decoded once; one that cannot be is named.
    pub struct Args: "download" {
        /// The folder to read.
        input folder: PathBuf;
        /// Which part of a dataset in Parquet to take, where its file names (`train-00000-of-00002.parquet`) or folders name parts.
        param split: String = "train".to_string();
        /// Whether to keep the labels; without them the data is one class.
        param labels: Labels = Labels::Keep;
        /// Share of the pictures that may turn out to be none; they are left out and listed in the manifest.
        param max_bad: f64 = 0.0, in 0.0..=1.0;
        /// Folder of Parquet files with a manifest.
        output images: PathBuf;
    }
}

/// The stage's work.
///
/// # Errors
/// Bad input when the folder holds no dataset, or more pictures than allowed cannot be decoded.
pub fn download(args: &Args, context: &Context) -> Result<()> {
    let source = Source::find(&args.folder, &args.split)?;
    let staged = Staged::folder(&args.images)?;
    std::fs::create_dir(staged.path().join("data"))?;
    let mut normaliser = Normaliser::new(staged.path(), args.labels, args.max_bad, context);
    match source {
        Source::Parquet(files) => normaliser.parquet(&args.folder, &files)?,
        Source::Tree { classes, files } => normaliser.files(&args.folder, Some(classes.len()), &files)?,
        Source::Flat(files) => normaliser.files(&args.folder, None, &files)?,
    }
    let Found { files, classes, bad } = normaliser.finish()?;
    let rows = files.iter().map(|f| f.rows).sum();
    if rows == 0 {
        bad_input!("--folder {}: not one picture", args.folder.display())
    }
    // The content names a local folder; its path would make the same pictures differ between two machines.
    let mut content = blake3::Hasher::new();
    for file in &files {
        content.update(file.sha256.as_bytes());
    }
    let revision = format!("blake3:{}", content.finalize().to_hex());
    let manifest = Manifest { rows, classes, source: "folder".into(), revision, files, bad };
    write_json(&staged.path().join("manifest.json"), &manifest)?;
    staged.commit()?;
    let left_out = match manifest.bad.len() {
        0 => String::new(),
        n => format!(", {n} left out: the first is {}", manifest.bad[0]),
    };
    context.message(&format!("{rows} pictures of {classes} class(es){left_out}"));
    Ok(())
}

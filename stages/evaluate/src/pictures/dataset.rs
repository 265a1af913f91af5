//! A folder of Parquet files with a column `image`: as `download` lays it out, or any in the Hub's layout.

use anyhow::{Context, Result};
use parquet::file::reader::{FileReader, SerializedFileReader};
use shards::pictures::{Picture, Pictures, read_parquet};
use stage::{BadInputExt, bad_input};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Pictures in the order of their files.
pub struct Dataset {
    files: Vec<PathBuf>,
    /// With a manifest, every file's digest is verified before its first picture.
    verified: Option<Pictures>,
    count: usize,
}

impl Dataset {
    /// Opens one file, or a folder: `manifest.json` and what it lists; without it, `*.parquet` in the folder and in its `data`,
    /// by name.
    ///
    /// # Errors
    /// Bad input when there is no Parquet file, or one is damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        if folder.join("manifest.json").is_file() {
            let pictures = Pictures::open(folder)?;
            let files = pictures.manifest().files.iter().map(|f| folder.join(&f.path)).collect();
            return Ok(Self { files, count: pictures.manifest().rows, verified: Some(pictures) });
        }
        let mut files = Vec::new();
        for folder in [folder.to_path_buf(), folder.join("data")] {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries {
                let path = entry.with_context(|| format!("listing {}", folder.display()))?.path();
                if path.extension().is_some_and(|e| e == "parquet") {
                    files.push(path);
                }
            }
        }
        if folder.is_file() {
            files.push(folder.into());
        }
        files.sort();
        if files.is_empty() {
            bad_input!(
                "{}: no pictures (neither samples.npz, PNG, JPEG or WebP files, nor Parquet files)",
                folder.display()
            )
        }
        let mut count = 0;
        for path in &files {
            let context = || format!("reading {}", path.display());
            let reader =
                SerializedFileReader::new(File::open(path).bad_input(context)?).bad_input(context)?;
            count += usize::try_from(reader.metadata().file_metadata().num_rows()).bad_input(context)?;
        }
        Ok(Self { files, verified: None, count })
    }

    /// How many pictures there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Every picture, still encoded, with its place for errors.
    pub fn iter(&self) -> impl Iterator<Item = Result<(String, Picture)>> + '_ {
        self.files.iter().enumerate().flat_map(|(i, path)| {
            let pictures: Result<Box<dyn Iterator<Item = Result<Picture>>>> = match &self.verified {
                Some(verified) => verified.read(i).map(|p| Box::new(p) as _),
                None => read_parquet(path).map(|p| Box::new(p) as _),
            };
            let pictures = pictures.unwrap_or_else(|e| Box::new(std::iter::once(Err(e))));
            pictures.map(move |p| p.map(|p| (format!("{} {}", path.display(), p.place()), p)))
        })
    }
}

//! A folder of pictures as `download` lays it out: Parquet files in the Hub's layout and a manifest of their digests.

use crate::picture::Picture;
use crate::table::{Columns, Table};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use stage::{BadInputExt, bad_input, read_json, sha256_while};
use std::path::{Path, PathBuf};

/// The manifest's file name.
pub(crate) const FILE: &str = "manifest.json";

/// `manifest.json` of a folder of pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Pictures in all files together.
    pub rows: usize,
    /// Number of classes; 1 where the source has no labels.
    pub classes: usize,
    /// Names of the classes, in the order of their numbers; empty where they are not named, or each by its number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// Where they came from.
    pub source: String,
    /// Which state of the source; a commit for a dataset of the Hub.
    pub revision: String,
    /// The files, in order.
    pub files: Vec<File>,
    /// What was left out because it is no picture, `FILE row N (NAME)`, where some was allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad: Vec<String>,
}

/// One Parquet file of pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its place in the folder.
    pub path: String,
    /// Pictures.
    pub rows: usize,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, as the Hub states it.
    pub sha256: String,
}

impl File {
    /// The manifest's entry for a finished file of `rows` pictures that stands at `path` in `folder`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn describe(folder: &Path, path: &str, rows: usize) -> Result<Self> {
        Self::describe_while(folder, path, rows, &|| Ok(()))
    }

    /// The same, as long as `check` lets it go on.
    ///
    /// # Errors
    /// When it cannot be read; those of `check`.
    pub fn describe_while(
        folder: &Path,
        path: &str,
        rows: usize,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Self> {
        let place = folder.join(path);
        let context = || format!("reading {}", place.display());
        let bytes = std::fs::metadata(&place).with_context(context)?.len();
        Ok(Self { path: path.into(), rows, bytes, sha256: sha256_while(&place, check)? })
    }
}

/// A folder that `download` wrote.
pub struct Pictures {
    folder: PathBuf,
    manifest: Manifest,
}

impl Pictures {
    /// Opens the folder; sizes are checked now, digests when a file is read.
    ///
    /// # Errors
    /// Bad input that names what is missing or cut short.
    pub fn open(folder: &Path) -> Result<Self> {
        let place = folder.join(FILE);
        let manifest: Manifest = read_json(&place)?;
        let rows = manifest.files.iter().map(|f| f.rows).sum::<usize>();
        let names = manifest.class_names.len();
        if manifest.rows != rows || manifest.classes == 0 || ![0, manifest.classes].contains(&names) {
            bad_input!("{}: its numbers contradict each other; download again", place.display())
        }
        for file in &manifest.files {
            let path = folder.join(&file.path);
            let size = std::fs::metadata(&path).bad_input(|| format!("reading {}", path.display()))?.len();
            if size != file.bytes {
                bad_input!(
                    "{}: {size} bytes, the manifest says {}; download again",
                    path.display(),
                    file.bytes
                )
            }
        }
        Ok(Self { folder: folder.into(), manifest })
    }

    /// Whether a folder looks as if `download` wrote it.
    pub(crate) fn made(folder: &Path) -> bool {
        let manifest = read_json::<serde_json::Value>(&folder.join(FILE));
        manifest.is_ok_and(|json| ["rows", "classes", "files"].iter().all(|key| json.get(key).is_some()))
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The pictures of one file, in order, after its digest has been found right.
    ///
    /// # Errors
    /// Bad input that names the file when it is not what was downloaded.
    pub fn read(&self, file: usize) -> Result<impl Iterator<Item = Result<Picture>> + use<>> {
        let encoded = self.table(file)?.read()?;
        Ok(encoded.map(|one| one.and_then(|one| one.present())))
    }

    /// One file, to be read where its digest is right.
    pub(crate) fn table(&self, file: usize) -> Result<Table> {
        let stated = &self.manifest.files[file];
        let path = self.folder.join(&stated.path);
        let mut table = Table::open(path, stated.path.clone(), &Columns::usual)?;
        table.sha256 = Some(stated.sha256.clone());
        Ok(table)
    }

    /// All pictures, in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Picture>> + '_ {
        (0..self.manifest.files.len()).flat_map(|file| match self.read(file) {
            Ok(pictures) => Box::new(pictures) as Box<dyn Iterator<Item = _>>,
            Err(e) => Box::new(std::iter::once(Err(e))),
        })
    }
}

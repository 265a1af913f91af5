//! What lies in a folder: pictures, Parquet files and the rest; hidden files and other systems' litter aside.

use crate::form::{self, Kind};
use anyhow::{Context, Result};
use stage::{BadInputExt, bad_input};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Folders and files that other programs leave among pictures.
const LITTER: [&str; 8] = [
    "__MACOSX",
    "__pycache__",
    "@eaDir",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
    "Thumbs.db",
    "desktop.ini",
];
/// What is hidden everywhere and never pictures.
const HIDDEN: [&str; 6] = [".git", ".gitattributes", ".gitignore", ".cache", ".huggingface", ".DS_Store"];

/// The files below a folder; all paths are relative to it.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Pictures, read here or not, by path.
    pub(crate) pictures: Vec<PathBuf>,
    /// Parquet files, by path.
    pub(crate) parquet: Vec<PathBuf>,
    /// What is no picture, by path.
    pub(crate) others: Vec<PathBuf>,
    /// Every folder that is looked into.
    pub(crate) folders: BTreeSet<PathBuf>,
    /// Pictures that cannot be read, and why.
    pub(crate) faults: BTreeMap<PathBuf, String>,
    /// Hidden files and folders that were passed over.
    pub(crate) hidden: Vec<PathBuf>,
    /// Links to folders that hold them.
    pub(crate) loops: Vec<PathBuf>,
}

impl Listing {
    /// Looks into `folder`. `check` is asked in every folder and may stop the work.
    ///
    /// # Errors
    /// Bad input where a folder cannot be read or something is neither file nor folder; those of `check`.
    pub(crate) fn of(folder: &Path, check: &dyn Fn() -> Result<()>) -> Result<Self> {
        if !fs::metadata(folder).bad_input(|| format!("reading {}", folder.display()))?.is_dir() {
            bad_input!("{} is neither a folder nor a Parquet file", folder.display())
        }
        let mut listing = Self::default();
        let whole = fs::canonicalize(folder).bad_input(|| format!("reading {}", folder.display()))?;
        // A link to a folder above would lead to files that nobody asked for, and then here again.
        let mut above = whole.ancestors().map(identity).collect::<Result<Vec<_>>>()?;
        listing.walk(folder, Path::new(""), &mut above, check)?;
        listing.pictures.sort();
        listing.parquet.sort();
        listing.others.sort();
        listing.hidden.sort();
        listing.loops.sort();
        Ok(listing)
    }

    fn walk(
        &mut self,
        root: &Path,
        inner: &Path,
        above: &mut Vec<(u64, u64)>,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        check()?;
        let place = root.join(inner);
        let context = || format!("reading {}", place.display());
        for entry in fs::read_dir(&place).bad_input(context)? {
            let entry = entry.bad_input(context)?;
            let (name, path) = (entry.file_name(), inner.join(entry.file_name()));
            if name.to_string_lossy().starts_with('.') {
                if !HIDDEN.iter().any(|known| name == OsStr::new(known)) {
                    self.hidden.push(path);
                }
                continue;
            }
            if LITTER.iter().any(|known| name == OsStr::new(known)) {
                continue;
            }
            // A link counts as what it points to: datasets are often farms of links.
            let kind = match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() => {
                    let identity = (metadata.dev(), metadata.ino());
                    if above.contains(&identity) {
                        self.loops.push(path);
                        continue;
                    }
                    self.folders.insert(path.clone());
                    above.push(identity);
                    self.walk(root, &path, above, check)?;
                    above.pop();
                    continue;
                }
                Ok(metadata) => metadata.file_type(),
                Err(e) => {
                    self.unreachable(entry.path(), path, &e)?;
                    continue;
                }
            };
            if !kind.is_file() {
                bad_input!(
                    "{} is {}, no file; move it away",
                    entry.path().display(),
                    match kind {
                        kind if kind.is_fifo() => "a fifo",
                        kind if kind.is_socket() => "a socket",
                        _ => "a device",
                    }
                )
            }
            match told(&entry.path(), &path)? {
                Kind::Picture => self.pictures.push(path),
                Kind::Parquet => self.parquet.push(path),
                Kind::Other | Kind::Unknown => self.others.push(path),
            }
        }
        Ok(())
    }

    /// A link that leads nowhere, or a file that cannot be reached.
    fn unreachable(&mut self, place: PathBuf, path: PathBuf, error: &std::io::Error) -> Result<()> {
        let why = match fs::read_link(&place) {
            Ok(target) => format!("a link to {}, which is not there", target.display()),
            Err(_) => error.to_string(),
        };
        match form::kind(&path) {
            Kind::Picture => {
                self.faults.insert(path.clone(), why);
                self.pictures.push(path);
            }
            Kind::Other => self.others.push(path),
            // Perhaps a folder of pictures once.
            Kind::Parquet | Kind::Unknown => bad_input!("{}: {why}", place.display()),
        }
        Ok(())
    }

    /// What was passed over, in a sentence each; `used` are files that were read for what they say of pictures.
    pub(crate) fn notes(&self, used: &BTreeSet<PathBuf>) -> Vec<String> {
        let others: Vec<&PathBuf> = self.others.iter().filter(|path| !used.contains(*path)).collect();
        let counted = |count: usize, one: &str, many: &str, first: &Path| match count {
            1 => format!("ignored: 1 {one} ({})", first.display()),
            _ => format!("ignored: {count} {many} (first: {})", first.display()),
        };
        let mut notes = Vec::new();
        if let Some(first) = others.first() {
            notes.push(counted(others.len(), "file that is no picture", "files that are no pictures", first));
        }
        if let Some(first) = self.hidden.first() {
            notes.push(counted(self.hidden.len(), "hidden file or folder", "hidden files or folders", first));
        }
        if let Some(first) = self.loops.first() {
            let many = "links to folders that hold them";
            notes.push(counted(self.loops.len(), "link to a folder that holds it", many, first));
        }
        notes
    }
}

/// What a file's name says of it, or its first bytes.
fn told(place: &Path, path: &Path) -> Result<Kind> {
    let kind = form::kind(path);
    if kind != Kind::Unknown {
        return Ok(kind);
    }
    let mut start = Vec::new();
    let read = fs::File::open(place).and_then(|file| file.take(1024).read_to_end(&mut start));
    read.bad_input(|| format!("reading {}", place.display()))?;
    Ok(if form::is_picture(&start) { Kind::Picture } else { Kind::Other })
}

/// What a folder is, whatever it is called.
fn identity(folder: &Path) -> Result<(u64, u64)> {
    let metadata = fs::metadata(folder).with_context(|| format!("reading {}", folder.display()))?;
    Ok((metadata.dev(), metadata.ino()))
}

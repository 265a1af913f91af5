//! Checks pictures and writes them in the common layout.

use crate::source::Labels;
use anyhow::{Context as _, Result};
use rayon::prelude::*;
use shards::pictures::{File, Layout, Manifest, Picture, PicturesWriter, decode, read_parquet};
use stage::{BadInputExt, Context, bad_input, write_json};
use std::fs;
use std::path::{Path, PathBuf};

/// Pictures checked at once.
const AT_ONCE: usize = 256;
/// Pictures of a file, where they come as files.
const FILE_ROWS: usize = 5000;

/// A Parquet file to take.
pub struct Parquet {
    /// Where it is.
    pub path: PathBuf,
    /// What errors call it.
    pub name: String,
    /// Whether nobody will ever change it in place, so that a hard link can stand for a copy.
    pub frozen: bool,
}

/// Writes `data/00000.parquet` and so on below a folder.
pub struct Normaliser<'a> {
    folder: &'a Path,
    labels: Labels,
    max_bad: f64,
    context: &'a Context,
    files: Vec<File>,
    bad: Vec<String>,
    seen: usize,
    total: usize,
    /// One more than the greatest label.
    labels_end: usize,
    classes: Option<usize>,
}

impl<'a> Normaliser<'a> {
    pub fn new(folder: &'a Path, labels: Labels, max_bad: f64, context: &'a Context) -> Self {
        Self {
            folder,
            labels,
            max_bad,
            context,
            files: Vec::new(),
            bad: Vec::new(),
            seen: 0,
            total: 0,
            labels_end: 0,
            classes: None,
        }
    }

    /// Takes Parquet files: as they are where they are in the layout already, else written anew.
    pub fn parquet(&mut self, files: &[Parquet]) -> Result<()> {
        let layouts = files.iter().map(|file| Layout::of(&file.path)).collect::<Result<Vec<_>>>()?;
        self.total = layouts.iter().map(|l| l.rows).sum();
        self.classes = layouts.iter().filter_map(|l| l.classes).max();
        if let Some(odd) = layouts.iter().position(|l| l.labelled != layouts[0].labelled) {
            let [with, without] = if layouts[0].labelled { [0, odd] } else { [odd, 0] };
            bad_input!(
                "{} has a column `label`, {} has none; drop them with --labels drop, or take one part with --split",
                files[with].name,
                files[without].name
            )
        }
        for (file, layout) in files.iter().zip(&layouts) {
            let labelled = layout.labelled && self.labels == Labels::Keep;
            let Parquet { path, name: shown, frozen } = file;
            let bad = self.bad.len();
            self.check(shown, read_parquet(path)?, labelled, |_| Ok(()))?;
            if layout.normal && labelled == layout.labelled && self.bad.len() == bad {
                let (name, target) = self.next();
                take(path, &target, *frozen)?;
                self.files.push(File::describe(self.folder, &name, layout.rows)?);
            } else {
                let bad = self.bad.split_off(bad);
                let place = |picture: &Picture| format!("{shown} {}", picture.place());
                let kept = read_parquet(path)?
                    .filter(|picture| picture.as_ref().map_or(true, |p| !bad.contains(&place(p))));
                self.write(kept, labelled)?;
                self.bad.extend(bad);
            }
        }
        Ok(())
    }

    /// Takes picture files, each with its class where there are classes.
    pub fn files(
        &mut self,
        root: &Path,
        classes: Option<usize>,
        files: &[(PathBuf, Option<i64>)],
    ) -> Result<()> {
        self.total = files.len();
        self.classes = classes;
        let labelled = classes.is_some() && self.labels == Labels::Keep;
        for part in files.chunks(FILE_ROWS) {
            let read = |(row, (path, label)): (usize, &(PathBuf, Option<i64>))| {
                let place = root.join(path);
                let bytes = fs::read(&place).bad_input(|| format!("reading {}", place.display()))?;
                Ok(Picture { row, name: path.display().to_string(), bytes, label: *label })
            };
            let mut good = Vec::new();
            let pictures = part.iter().enumerate().map(read);
            self.check("", pictures, labelled, |picture| {
                good.push(picture);
                Ok(())
            })?;
            self.write(good.into_iter().map(Ok), labelled)?;
        }
        Ok(())
    }

    /// Writes the manifest. `revision` is made from the content where the source has none of its own.
    pub fn finish(self, source: &str, revision: Option<String>) -> Result<Manifest> {
        let classes = match (self.labels, self.labels_end) {
            (Labels::Keep, end) if end > 0 => {
                let classes = self.classes.unwrap_or(end);
                if end > classes {
                    bad_input!("{source}: a label is {}, but it names {classes} classes", end - 1)
                }
                classes
            }
            _ => 1,
        };
        let rows = self.files.iter().map(|f| f.rows).sum();
        if rows == 0 {
            bad_input!("{source}: not one picture")
        }
        let revision = revision.unwrap_or_else(|| content(&self.files));
        let manifest =
            Manifest { rows, classes, source: source.into(), revision, files: self.files, bad: self.bad };
        write_json(&self.folder.join("manifest.json"), &manifest)?;
        let left_out = match manifest.bad.as_slice() {
            [] => String::new(),
            [first, ..] => format!(", {} left out, first {first}", manifest.bad.len()),
        };
        self.context.message(&format!("{rows} pictures of {classes} class(es){left_out}"));
        Ok(manifest)
    }

    /// Decodes every picture; `keep` gets the good ones in order, the others are listed.
    fn check(
        &mut self,
        file: &str,
        pictures: impl Iterator<Item = Result<Picture>>,
        labelled: bool,
        mut keep: impl FnMut(Picture) -> Result<()>,
    ) -> Result<()> {
        let mut pictures = pictures.peekable();
        while pictures.peek().is_some() {
            self.context.check_stop()?;
            let some: Vec<Picture> = pictures.by_ref().take(AT_ONCE).collect::<Result<_>>()?;
            let faults: Vec<Option<String>> =
                some.par_iter().map(|p| decode(&p.bytes).err().map(|e| format!("{e:#}"))).collect();
            self.seen += some.len();
            for (picture, fault) in some.into_iter().zip(faults) {
                let place = match file {
                    "" => picture.name.clone(),
                    file => format!("{file} {}", picture.place()),
                };
                if let Some(fault) = fault {
                    self.bad.push(place.clone());
                    let allowed = (self.max_bad * self.total as f64).floor();
                    if self.bad.len() as f64 > allowed {
                        bad_input!("{place}: {}", refusal(&fault, self.bad.len(), self.total, self.max_bad))
                    }
                    continue;
                }
                if let Some(label) = picture.label.filter(|_| labelled) {
                    let end = usize::try_from(label + 1).ok().filter(|&end| end > 0 && end <= 1_000_000);
                    let Some(end) = end else {
                        bad_input!("{place}: label {label} is no class; drop labels with --labels drop")
                    };
                    self.labels_end = self.labels_end.max(end);
                }
                keep(picture)?;
            }
            self.context.progress(self.seen, self.total, "images");
        }
        Ok(())
    }

    fn write(&mut self, pictures: impl Iterator<Item = Result<Picture>>, labelled: bool) -> Result<()> {
        let (name, target) = self.next();
        let mut writer = PicturesWriter::create(&target, labelled)?;
        let mut rows = 0;
        for picture in pictures {
            writer.push(picture?)?;
            rows += 1;
        }
        writer.finish()?;
        self.files.push(File::describe(self.folder, &name, rows)?);
        Ok(())
    }

    fn next(&self) -> (String, PathBuf) {
        let name = format!("data/{:05}.parquet", self.files.len());
        let target = self.folder.join(&name);
        (name, target)
    }
}

/// Puts a file where it belongs.
pub fn take(path: &Path, target: &Path, frozen: bool) -> Result<()> {
    // A link into the Hub's cache leads to the file itself.
    let path = fs::canonicalize(path).with_context(|| format!("finding {}", path.display()))?;
    if !frozen || fs::hard_link(&path, target).is_err() {
        let copied = fs::copy(&path, target);
        copied.with_context(|| format!("copying {} to {}", path.display(), target.display()))?;
    }
    Ok(())
}

/// A name for the content of a folder: its path would make the same pictures differ between two machines.
fn content(files: &[File]) -> String {
    let mut content = blake3::Hasher::new();
    for file in files {
        content.update(file.sha256.as_bytes());
    }
    format!("blake3:{}", content.finalize().to_hex())
}

fn refusal(fault: &str, bad: usize, total: usize, max_bad: f64) -> String {
    let fault =
        if fault.starts_with("not a picture") { fault.into() } else { format!("not a picture: {fault}") };
    match bad {
        1 => fault,
        n => format!("{fault}; that makes {n} of {total}, more than --max-bad {max_bad} allows"),
    }
}

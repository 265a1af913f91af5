//! Checks pictures and writes them in the common layout.

use crate::arguments::Args;
use crate::outputs;
use anyhow::{Context as _, Result};
use pictures::dataset::{Container, Files};
use pictures::{Classes, Dataset, Encoded, File, Manifest, PicturesWriter, Table};
use rayon::prelude::*;
use stage::{Context, Staged, bad_input, write_json};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Pictures checked at once, at most.
const AT_ONCE: usize = 256;
/// Bytes of them, about.
const BYTES_AT_ONCE: usize = 256 << 20;
/// Bytes of a file copied between two looks at whether to stop.
const COPIED_AT_ONCE: u64 = 256 << 20;
/// Bad pictures that are named where there are too many.
const NAMED: usize = 5;
/// So many bad pictures are enough to know.
const ENOUGH: usize = 100;
/// Pictures of a file, where they come as files.
const FILE_ROWS: usize = 5000;

/// Fills the output folder and puts it in its place. `frozen` files are changed by nobody.
pub fn lay_out(
    images: &Path,
    source: &str,
    revision: Option<String>,
    dataset: &Dataset,
    frozen: bool,
    args: &Args,
    context: &Context,
) -> Result<()> {
    dataset.notes.iter().for_each(|note| context.message(note));
    let staged = Staged::folder(images, &outputs::IMAGES)?;
    fs::create_dir(staged.path().join("data"))?;
    let mut normaliser = Normaliser::new(staged.path(), args.max_bad, frozen, context);
    normaliser.take(dataset)?;
    normaliser.finish(source, revision, dataset.classes.as_ref())?;
    staged.commit()
}

/// Writes `data/00000.parquet` and so on below a folder.
struct Normaliser<'a> {
    folder: &'a Path,
    max_bad: f64,
    /// Whether nobody will ever change the source's files in place, so that a hard link can stand for a copy.
    frozen: bool,
    context: &'a Context,
    files: Vec<File>,
    bad: Vec<String>,
    /// What is wrong with the first of them, and with which.
    faults: Vec<(String, Vec<String>)>,
    seen: usize,
    total: usize,
}

impl<'a> Normaliser<'a> {
    fn new(folder: &'a Path, max_bad: f64, frozen: bool, context: &'a Context) -> Self {
        let (files, bad, faults) = (Vec::new(), Vec::new(), Vec::new());
        Self { folder, max_bad, frozen, context, files, bad, faults, seen: 0, total: 0 }
    }

    /// Takes all pictures of a dataset.
    fn take(&mut self, dataset: &Dataset) -> Result<()> {
        self.total = dataset.count();
        match &dataset.source {
            Container::Tables(tables) => tables.iter().try_for_each(|table| self.table(table))?,
            Container::Files(files) => self.loose(files, dataset.classes.is_some())?,
        }
        match self.refused() {
            true => bad_input!("{}", self.refusal()),
            false => Ok(()),
        }
    }

    /// Whether more pictures are bad than may be. Nothing is written any more then; the others are looked at, so that all can be
    /// mended at once.
    fn refused(&self) -> bool {
        let allowed = (self.max_bad * self.total as f64).floor();
        self.bad.len() as f64 > allowed
    }

    /// What is wrong, on one line.
    fn refusal(&self) -> String {
        let (bad, total, max_bad) = (self.bad.len(), self.total, self.max_bad);
        let faults = self.faults.iter().map(|(fault, places)| format!("{}: {fault}", places.join(", ")));
        let first = faults.collect::<Vec<_>>().join("; ");
        if bad <= 1 {
            return first;
        }
        let more = match bad - self.named() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        // Where enough were found, the rest was not looked at.
        let count = if self.seen < total { format!("at least {bad}") } else { bad.to_string() };
        format!("{first}{more}; that makes {count} of {total}, more than --max-bad {max_bad} allows")
    }

    /// How many bad pictures are named.
    fn named(&self) -> usize {
        self.faults.iter().map(|(_, places)| places.len()).sum()
    }

    /// Names a bad picture, if it is one of the first.
    fn name(&mut self, fault: String, place: &str) {
        if self.named() >= NAMED {
            return;
        }
        match self.faults.iter_mut().find(|(known, _)| *known == fault) {
            Some((_, places)) => places.push(place.into()),
            None => self.faults.push((fault, vec![place.into()])),
        }
    }

    /// Takes a Parquet file: as it is where it is in the layout already and whole, else written anew.
    fn table(&mut self, table: &Table) -> Result<()> {
        let mut bad = BTreeSet::new();
        self.check(table.read()?, &mut |one, good| {
            if !good {
                bad.insert(one.picture.row);
            }
            Ok(())
        })?;
        if self.refused() {
            return Ok(());
        }
        if table.normal && bad.is_empty() {
            let (name, target) = self.next();
            take(&table.path, &target, self.frozen, self.context)?;
            self.files
                .push(File::describe_while(self.folder, &name, table.rows, &|| self.context.check_stop())?);
            return Ok(());
        }
        let good =
            table.read()?.filter(|one| one.as_ref().map_or(true, |one| !bad.contains(&one.picture.row)));
        let mut target = Target::new(self.next(), table.labelled());
        for one in good {
            self.context.check_stop()?;
            target.push(one?)?;
        }
        self.files.extend(target.finish(self.folder, self.context)?);
        Ok(())
    }

    /// Takes picture files.
    fn loose(&mut self, files: &Files, labelled: bool) -> Result<()> {
        for first in (0..files.len()).step_by(FILE_ROWS) {
            let mut target = Target::new(self.next(), labelled);
            let part = (first..files.len().min(first + FILE_ROWS)).map(|i| Ok(files.read(i)));
            self.check(part, &mut |one, good| if good { target.push(one) } else { Ok(()) })?;
            if self.refused() {
                continue;
            }
            self.files.extend(target.finish(self.folder, self.context)?);
        }
        Ok(())
    }

    /// Writes the manifest. `revision` is made from the content where the source has none of its own.
    fn finish(self, source: &str, revision: Option<String>, classes: Option<&Classes>) -> Result<Manifest> {
        let rows = self.files.iter().map(|f| f.rows).sum();
        if rows == 0 {
            bad_input!("{source}: not one picture among {} rows", self.total)
        }
        let (classes, class_names) = classes.map_or((1, Vec::new()), |c| (c.count, c.names.clone()));
        let revision = revision.unwrap_or_else(|| content(&self.files));
        let (files, bad) = (self.files, self.bad);
        let manifest = Manifest { rows, classes, class_names, source: source.into(), revision, files, bad };
        write_json(&self.folder.join("manifest.json"), &manifest)?;
        let left_out = match manifest.bad.as_slice() {
            [] => String::new(),
            [first, ..] => format!(", {} left out, first {first}", manifest.bad.len()),
        };
        self.context.message(&format!("{rows} pictures of {classes} class(es){left_out}"));
        Ok(manifest)
    }

    /// Decodes every picture; `give` gets all in order and whether they are good, the others are listed.
    fn check(
        &mut self,
        pictures: impl Iterator<Item = Result<Encoded>>,
        give: &mut dyn FnMut(Encoded, bool) -> Result<()>,
    ) -> Result<()> {
        let mut pictures = pictures.peekable();
        while !(self.refused() && self.bad.len() >= ENOUGH) && pictures.peek().is_some() {
            let some = self.some(&mut pictures)?;
            let faults: Vec<Option<String>> = some
                .par_iter()
                .map(|one| {
                    self.context.check_stop()?;
                    Ok(one.decode().err().map(|e| format!("{e:#}")))
                })
                .collect::<Result<_>>()?;
            self.seen += some.len();
            for (one, fault) in some.into_iter().zip(faults) {
                if let Some(fault) = &fault {
                    self.bad.push(one.place.clone());
                    self.name(told(fault), &one.place);
                }
                if !self.refused() {
                    give(one, fault.is_none())?;
                }
            }
            self.context.progress(self.seen, self.total, "images");
        }
        Ok(())
    }

    /// The next few, as many as may be in memory.
    fn some(&self, pictures: &mut impl Iterator<Item = Result<Encoded>>) -> Result<Vec<Encoded>> {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while some.len() < AT_ONCE && bytes < BYTES_AT_ONCE {
            self.context.check_stop()?;
            let Some(one) = pictures.next() else { break };
            let one = one?;
            bytes += one.picture.bytes.len();
            some.push(one);
        }
        Ok(some)
    }

    fn next(&self) -> (String, PathBuf) {
        let name = format!("data/{:05}.parquet", self.files.len());
        let target = self.folder.join(&name);
        (name, target)
    }
}

/// A file being written, begun with its first picture.
struct Target {
    name: String,
    path: PathBuf,
    labelled: bool,
    writer: Option<PicturesWriter>,
    rows: usize,
}

impl Target {
    fn new((name, path): (String, PathBuf), labelled: bool) -> Self {
        Self { name, path, labelled, writer: None, rows: 0 }
    }

    fn push(&mut self, one: Encoded) -> Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(PicturesWriter::create(&self.path, self.labelled)?),
        };
        self.rows += 1;
        writer.push(one.picture)
    }

    /// What the manifest says of it; nothing where not one picture was good.
    fn finish(self, folder: &Path, context: &Context) -> Result<Option<File>> {
        let Some(writer) = self.writer else { return Ok(None) };
        writer.finish()?;
        File::describe_while(folder, &self.name, self.rows, &|| context.check_stop()).map(Some)
    }
}

/// Puts a file where it belongs.
pub fn take(path: &Path, target: &Path, frozen: bool, context: &Context) -> Result<()> {
    // A link into the Hub's cache leads to the file itself.
    let path = fs::canonicalize(path).with_context(|| format!("finding {}", path.display()))?;
    if frozen && fs::hard_link(&path, target).is_ok() {
        return Ok(());
    }
    let what = || format!("copying {} to {}", path.display(), target.display());
    let (from, mut to) =
        (fs::File::open(&path).with_context(what)?, fs::File::create(target).with_context(what)?);
    while std::io::copy(&mut (&from).take(COPIED_AT_ONCE), &mut to).with_context(what)? > 0 {
        context.check_stop()?;
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

/// What is wrong with a picture, as it is told.
fn told(fault: &str) -> String {
    match fault {
        known if known.starts_with("not a picture") || known.starts_with("a picture") => known.into(),
        other => format!("not a picture: {other}"),
    }
}

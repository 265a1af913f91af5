//! A dataset of pictures as it comes: Parquet files, a folder for each class, or pictures; its configurations, splits and labels.
//! One reader for all who take datasets.

mod annotations;
mod parts;
mod tree;
mod walk;

pub use parts::Part;

use crate::columns::Choice;
use crate::decode::MAX_BYTES;
use crate::form;
use crate::labels::{Classes, Labels, Tally, out_of_order};
use crate::manifest::Pictures;
use crate::picture::{Encoded, Picture};
use crate::selection::Selection;
use crate::table::{self, Columns, Footer, Table};
use anyhow::{Result, ensure};
use stage::bad_input;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tree::Tree;
use walk::Listing;

/// A dataset, found and understood.
#[derive(Debug)]
pub struct Dataset {
    /// Where its pictures are.
    pub source: Container,
    /// Their classes, where they have any.
    pub classes: Option<Classes>,
    /// What a person should know, in sentences.
    pub notes: Vec<String>,
    /// Why labels were passed over.
    pub doubts: Vec<String>,
}

/// Where pictures are.
#[derive(Debug)]
pub enum Container {
    /// In Parquet files.
    Tables(Vec<Table>),
    /// In files of their own.
    Files(Files),
}

/// Pictures in files of their own, in the order of their paths.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    files: Vec<(PathBuf, Option<i64>)>,
    faults: BTreeMap<PathBuf, String>,
}

impl Dataset {
    /// Finds the dataset at `path`, a folder or a Parquet file. `check` is asked from time to time and may stop the work.
    ///
    /// # Errors
    /// Bad input that names what is missing, damaged or not clear; those of `check`.
    pub fn open(path: &Path, selection: &Selection, check: &dyn Fn() -> Result<()>) -> Result<Self> {
        let name = |path: &Path| path.display().to_string();
        if path.is_file() {
            let file = Path::new(path.file_name().unwrap_or(path.as_os_str())).to_path_buf();
            ensure_parquet(path, selection)?;
            parts::config(&BTreeSet::new(), selection)?;
            return Self::tables(vec![(path.into(), name(&file))], Vec::new(), selection, check);
        }
        if Pictures::made(path) {
            return Self::downloaded(&Pictures::open(path)?, selection);
        }
        let listing = Listing::of(path, check)?;
        let tables: Vec<&PathBuf> = listing.parquet.iter().filter(|p| !annotations::is_metadata(p)).collect();
        match (tables.first(), listing.pictures.first()) {
            (None, None) => bad_input!(
                "{}: no pictures, neither Parquet files nor pictures in it{}",
                selection.source,
                others(&listing)
            ),
            (Some(table), Some(picture)) => bad_input!(
                "{}: both Parquet files ({}) and pictures ({}); name the folder of one kind, or move the other away",
                selection.source,
                table.display(),
                picture.display()
            ),
            (Some(_), None) => {
                let part = Part::choose(tables.into_iter().cloned().collect(), selection)?;
                let at = |file: PathBuf| (path.join(&file), name(&file));
                let mut dataset = Self::tables(
                    part.files.into_iter().map(at).collect(),
                    part.others.into_iter().map(at).collect(),
                    selection,
                    check,
                )?;
                dataset.notes.splice(0..0, part.notes.into_iter().chain(listing.notes(&BTreeSet::new())));
                Ok(dataset)
            }
            (None, Some(_)) => Self::files(path, listing, selection),
        }
    }

    /// Pictures in these Parquet files, each with what errors call it. `others` are those of the dataset's other splits, whose
    /// labels count where classes are numbered. `check` is asked from time to time and may stop the work.
    ///
    /// # Errors
    /// Bad input that names a file or a column that is missing, damaged or not clear; those of `check`.
    pub fn tables(
        files: Vec<(PathBuf, String)>,
        others: Vec<(PathBuf, String)>,
        selection: &Selection,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Self> {
        let read = |(path, name): (PathBuf, String)| check().and_then(|()| Footer::read(path, name));
        let footers = files.into_iter().map(read).collect::<Result<Vec<_>>>()?;
        let Some(first) = footers.first() else { bad_input!("{}: no Parquet files", selection.source) };
        let choice = Choice { columns: &first.columns, selection, source: &first.name };
        let image = choice.image()?;
        if footers.iter().all(Footer::is_empty) {
            bad_input!("{}: no rows in its Parquet files", selection.source)
        }
        let (mut notes, mut doubts) = (Vec::new(), Vec::new());
        if image != "image" && selection.image_column.is_none() {
            notes.push(format!("{}: pictures come from the column {image}", first.name));
        }
        let mut label = match choice.label(&image, false) {
            Ok((label, note)) => {
                let list = if label.is_none() && !selection.insist { &mut doubts } else { &mut notes };
                list.extend(note);
                label
            }
            Err(e) => {
                selection.doubt(e, &mut doubts)?;
                None
            }
        };
        let mut classes = None;
        if let Some(column) = &label {
            match classes_of(&footers, others, column, selection, check) {
                Ok(found) => {
                    let by_name = found.as_ref().filter(|classes| classes.by_name());
                    notes.extend(by_name.and_then(|classes| out_of_order(&classes.names, "label")));
                    classes = found;
                }
                Err(e) => {
                    selection.doubt(e, &mut doubts)?;
                    label = None;
                }
            }
        }
        if let Some(odd) = footers.iter().find(|footer| !footer.has(&image)) {
            bad_input!("{} has pictures in the column {image}, {} has no such column", first.name, odd.name)
        }
        let meaning = Arc::new(classes.clone().unwrap_or_default());
        let columns = Columns { image, label };
        let tables = footers.into_iter().map(|footer| footer.table(columns.clone(), Arc::clone(&meaning)));
        Ok(Self { source: Container::Tables(tables.collect()), classes, notes, doubts })
    }

    /// A folder that `download` wrote.
    fn downloaded(pictures: &Pictures, selection: &Selection) -> Result<Self> {
        parts::config(&BTreeSet::new(), selection)?;
        parts::split(&BTreeSet::new(), selection)?;
        let manifest = pictures.manifest();
        let mut tables =
            (0..manifest.files.len()).map(|file| pictures.table(file)).collect::<Result<Vec<_>>>()?;
        if selection.labels == Labels::Drop {
            tables.iter_mut().for_each(Table::drop_labels);
        }
        let labelled = tables.iter().all(Table::labelled);
        let classes = labelled.then(|| Classes::counted(manifest.classes, manifest.class_names.clone()));
        Ok(Self { source: Container::Tables(tables), classes, notes: Vec::new(), doubts: Vec::new() })
    }

    fn files(folder: &Path, mut listing: Listing, selection: &Selection) -> Result<Self> {
        if let Some(column) = &selection.image_column {
            bad_input!(
                "--image-column {column}: {} holds pictures in files, not in columns",
                selection.source
            )
        }
        let tree = Tree::find(&listing, selection)?;
        let (mut notes, mut doubts, mut used) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut files: Vec<(PathBuf, Option<i64>)> = Vec::new();
        let (mut classes, mut by_folder) = (None, true);
        let beside = match selection.labels {
            Labels::Keep => annotations::find(folder, &tree, &listing, selection),
            Labels::Drop => Ok(None),
        };
        let annotated = match beside {
            Ok(annotated) => annotated,
            Err(e) => {
                selection.doubt(e, &mut doubts)?;
                None
            }
        };
        if let Some(annotated) = annotated {
            by_folder = !annotated.flat && annotated.classes.is_none();
            notes.extend(annotated.notes);
            used = annotated.sources;
            classes = annotated.classes;
            listing.faults.extend(annotated.faults);
            files = annotated.files;
        } else if let Some(column) = &selection.label_column {
            bad_input!("--label-column {column}: {} has no table beside its pictures", selection.source)
        }
        if files.is_empty() {
            files = tree.pictures(&listing).map(|path| (path.clone(), None)).collect();
        }
        if by_folder {
            match tree.classes(&listing, selection) {
                Ok(Some(found)) => {
                    for (path, label) in &mut files {
                        let class = tree
                            .class(path)
                            .and_then(|c| found.names.binary_search_by(|n| n.as_str().cmp(c)).ok());
                        *label = class.map(|number| number as i64);
                    }
                    notes.extend(found.notes);
                    classes = Some(Classes::named(found.names));
                }
                Ok(None) => {}
                Err(e) => selection.doubt(e, &mut doubts)?,
            }
        }
        if classes.is_none() && selection.labels == Labels::Keep {
            let list = if selection.insist { &mut notes } else { &mut doubts };
            list.extend(annotations::unread(&listing, &used));
        }
        notes.extend(listing.notes(&used));
        let files = Files { folder: folder.into(), files, faults: listing.faults };
        Ok(Self { source: Container::Files(files), classes, notes, doubts })
    }

    /// How many pictures there are, those among them that cannot be read.
    pub fn count(&self) -> usize {
        match &self.source {
            Container::Tables(tables) => tables.iter().map(|table| table.rows).sum(),
            Container::Files(files) => files.files.len(),
        }
    }

    /// Every picture in order.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Result<Encoded>> + '_> {
        self.iter_from(0)
    }

    /// Every picture in order, but for so many at the start; files that hold only those are not read.
    pub fn iter_from(&self, first: usize) -> Box<dyn Iterator<Item = Result<Encoded>> + '_> {
        let tables = match &self.source {
            Container::Files(files) => return Box::new((first..files.len()).map(|i| Ok(files.read(i)))),
            Container::Tables(tables) => tables,
        };
        let mut left = first;
        let rest = tables.iter().filter_map(move |table| {
            let passed = left.min(table.rows);
            left -= passed;
            (passed < table.rows).then_some((table, passed))
        });
        Box::new(rest.flat_map(|(table, passed)| match table.read() {
            Ok(pictures) => Box::new(pictures.skip(passed)) as Box<dyn Iterator<Item = _>>,
            Err(e) => Box::new(std::iter::once(Err(e))),
        }))
    }
}

impl Files {
    /// How many.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Reads one.
    ///
    /// # Panics
    /// When there is no such picture.
    pub fn read(&self, at: usize) -> Encoded {
        let (path, label) = &self.files[at];
        let name = path.display().to_string();
        let place = self.folder.join(path);
        let read = || -> Result<Vec<u8>> {
            let length = std::fs::metadata(&place)?.len();
            ensure!(length <= MAX_BYTES, "{length} bytes are more than a picture has");
            Ok(std::fs::read(&place)?)
        };
        let (bytes, fault) = match (self.faults.get(path), read()) {
            (Some(fault), _) => (Vec::new(), Some(fault.clone())),
            (None, Ok(bytes)) => (bytes, None),
            (None, Err(e)) => (Vec::new(), Some(format!("{e:#}"))),
        };
        let fault = fault.map(|fault| format!("not a picture: {fault}"));
        Encoded { place: name.clone(), picture: Picture { row: at, name, bytes, label: *label }, fault }
    }
}

/// What a folder without pictures holds, and what to do with it.
fn others(listing: &Listing) -> String {
    let way_out = listing.others.iter().find_map(|path| Some((path, form::way_out(path)?)));
    match (way_out, listing.others.first()) {
        (Some((path, way_out)), _) => format!(", but {}; {way_out}", path.display()),
        (None, Some(first)) => format!(", but {}", first.display()),
        (None, None) => String::new(),
    }
}

fn ensure_parquet(path: &Path, selection: &Selection) -> Result<()> {
    let named = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
    if !named && !table::is_parquet(path)? {
        bad_input!("{} is neither a folder nor a Parquet file", selection.source)
    }
    Ok(())
}

/// The classes of a column of labels, which all files have.
fn classes_of(
    footers: &[Footer],
    others: Vec<(PathBuf, String)>,
    column: &str,
    selection: &Selection,
    check: &dyn Fn() -> Result<()>,
) -> Result<Option<Classes>> {
    let mut tally = Tally::default();
    let named = footers[0].class_names(column);
    for footer in footers {
        check()?;
        if !footer.has(column) {
            bad_input!(
                "{} has a column `{column}`, {} has none; take one part of them, with --split for example",
                footers[0].name,
                footer.name
            )
        }
        if footer.class_names(column) != named {
            bad_input!(
                "{} and {} name the classes of `{column}` differently; take one of them",
                footers[0].name,
                footer.name
            )
        }
        footer.labels(column, &mut |row, cell| tally.add(cell, || format!("{} row {row}", footer.name)))?;
    }
    // What is wrong with the labels of another split is no matter here.
    for (path, name) in others {
        check()?;
        let Ok(footer) = Footer::read(path, name) else { continue };
        if footer.has(column) {
            let _ = footer.labels(column, &mut |_, cell| {
                tally.also(cell);
                Ok(())
            });
        }
    }
    tally.classes(named, &selection.source)
}

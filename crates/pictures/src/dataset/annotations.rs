//! Labels in a file beside the pictures: `metadata.csv`, `.jsonl` or `.parquet` of an ImageFolder, `dataset.json` of EDM and
//! StyleGAN.

use super::tree::Tree;
use super::walk::Listing;
use crate::columns::{Choice, Column, Holds};
use crate::labels::{Cell, Classes, Tally};
use crate::selection::Selection;
use crate::table::Footer;
use anyhow::{Context, Result, bail, ensure};
use stage::{BadInputExt, bad_input};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Names of files that say something of pictures beside or below them.
const METADATA: [&str; 3] = ["metadata.csv", "metadata.jsonl", "metadata.parquet"];
const EDM: &str = "dataset.json";
/// The column of an ImageFolder's metadata that names pictures.
const FILE_NAME: &str = "file_name";
/// Endings of files that may hold labels, but are not read for them.
const TABLES: [&str; 6] = ["csv", "tsv", "json", "jsonl", "xlsx", "xls"];
/// Longest file of annotations.
const LONGEST: u64 = 1 << 30;

/// Whether a Parquet file is no dataset but says something of pictures.
pub(crate) fn is_metadata(path: &Path) -> bool {
    path.file_name().is_some_and(|name| METADATA.iter().any(|known| name == *known))
}

/// That labels perhaps stand in a table of another name than those that are read.
pub(crate) fn unread(listing: &Listing, used: &BTreeSet<PathBuf>) -> Option<String> {
    let is_table = |path: &&PathBuf| {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        !used.contains(*path) && ending.is_some_and(|ending| TABLES.contains(&ending.as_str()))
    };
    let table = listing.others.iter().find(is_table)?;
    Some(format!(
        "no labels are taken, the data is one class; should {} hold some, a {} with a column {FILE_NAME} is read",
        table.display(),
        METADATA[0]
    ))
}

/// What the files beside pictures say.
pub(crate) struct Annotated {
    /// The pictures, with their labels where there are any.
    pub(crate) files: Vec<(PathBuf, Option<i64>)>,
    /// Why some of them cannot be read.
    pub(crate) faults: BTreeMap<PathBuf, String>,
    /// The classes of the labels; without them, folders may still be classes.
    pub(crate) classes: Option<Classes>,
    /// Files that say so.
    pub(crate) sources: BTreeSet<PathBuf>,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
    /// Whether folders are no classes, whatever the labels are.
    pub(crate) flat: bool,
}

/// A file of annotations.
struct Table {
    /// Of each picture it names.
    rows: Vec<String>,
    columns: Vec<Column>,
    cells: Vec<Vec<Cell>>,
    /// `dataset.json` of EDM, whose folders are no classes.
    edm: bool,
}

/// Reads what lies beside the pictures of the chosen part, where something does.
///
/// # Errors
/// Bad input when a file is damaged, leaves pictures out, or it is not clear where the labels stand.
pub(crate) fn find(
    folder: &Path,
    tree: &Tree,
    listing: &Listing,
    selection: &Selection,
) -> Result<Option<Annotated>> {
    let beside = sources(folder, listing, selection)?;
    let nearest = |picture: &Path| {
        picture.ancestors().skip(1).find(|above| beside.contains_key(*above)).map(PathBuf::from)
    };
    let mut found = Annotated {
        files: Vec::new(),
        faults: BTreeMap::new(),
        classes: None,
        sources: BTreeSet::new(),
        notes: Vec::new(),
        flat: false,
    };
    let mut groups: BTreeMap<PathBuf, Vec<&PathBuf>> = BTreeMap::new();
    let mut bare = None;
    for picture in tree.pictures(listing) {
        match nearest(picture) {
            Some(folder) => groups.entry(folder).or_default().push(picture),
            None => bare = bare.or(Some(picture)),
        }
    }
    let Some(first) = groups.keys().next() else { return Ok(None) };
    if let Some(bare) = bare {
        bad_input!(
            "{}: {} says nothing of {}; is it for all pictures?",
            selection.source,
            beside[first].display(),
            bare.display()
        )
    }
    let mut labelled: Vec<(PathBuf, Option<Cell>)> = Vec::new();
    let mut taken = None;
    for (above, pictures) in &groups {
        let source = &beside[above];
        let name = format!("{}/{}", folder.display(), source.display());
        let table = Table::read(&folder.join(source)).bad_input(|| format!("reading {name}"))?;
        found.flat |= table.edm;
        if table.edm && table.columns.is_empty() {
            found.notes.push(format!("{name}: no labels in it, the data is one class"));
            labelled.extend(pictures.iter().map(|picture| ((*picture).clone(), None)));
            found.sources.insert(source.clone());
            continue;
        }
        let folders = !table.edm && tree.has_folders();
        let (label, note) =
            Choice { columns: &table.columns, selection, source: &name }.label(FILE_NAME, folders)?;
        found.notes.extend(note);
        if *taken.get_or_insert_with(|| label.clone()) != label {
            bad_input!("{name}: its labels are not in the column that the other files have")
        }
        let named = table.assign(above, &tree.root, label.as_deref(), &name)?;
        if let Some(missing) = pictures.iter().find(|picture| !named.contains_key(**picture)) {
            let count = pictures.iter().filter(|picture| !named.contains_key(**picture)).count();
            bad_input!(
                "{name}: {count} of {} pictures are not named in it, the first is {}",
                pictures.len(),
                missing.display()
            )
        }
        for (path, cell) in named {
            if listing.pictures.binary_search(&path).is_err() && !folder.join(&path).is_file() {
                found.faults.insert(path.clone(), format!("named in {}, but not there", source.display()));
            }
            labelled.push((path, cell));
        }
        found.sources.insert(source.clone());
    }
    labelled.sort_by(|a, b| a.0.cmp(&b.0));
    if taken.flatten().is_some() {
        let mut tally = Tally::default();
        for (path, cell) in &labelled {
            tally.add(cell.as_ref().unwrap_or(&Cell::Missing), || path.display().to_string())?;
        }
        found.classes = tally.classes(None, &selection.source)?;
    }
    let number = |cell: Option<Cell>| {
        found.classes.as_ref().zip(cell).and_then(|(classes, cell)| classes.number(&cell))
    };
    found.files = labelled.into_iter().map(|(path, cell)| (path, number(cell))).collect();
    Ok(Some(found))
}

/// The file of annotations of each folder that has one.
fn sources(folder: &Path, listing: &Listing, selection: &Selection) -> Result<BTreeMap<PathBuf, PathBuf>> {
    let mut sources: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for path in listing.others.iter().chain(&listing.parquet) {
        let name = path.file_name().unwrap_or_default();
        let edm = name == EDM && is_edm(&folder.join(path))?;
        if !edm && !is_metadata(path) {
            continue;
        }
        let above = path.parent().unwrap_or(Path::new("")).to_path_buf();
        if let Some(other) = sources.insert(above, path.clone()) {
            bad_input!(
                "{}: both {} and {} say what the pictures are; move one away",
                selection.source,
                other.display(),
                path.display()
            )
        }
    }
    Ok(sources)
}

fn is_edm(path: &Path) -> Result<bool> {
    let text = text(path).bad_input(|| format!("reading {}", path.display()))?;
    let json: Result<serde_json::Value, _> = serde_json::from_str(&text);
    Ok(json.is_ok_and(|json| json.get("labels").is_some()))
}

fn text(path: &Path) -> Result<String> {
    let length = fs::metadata(path)?.len();
    ensure!(length <= LONGEST, "{length} bytes are too many");
    let text = stage::text(fs::read(path)?)?;
    Ok(text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text))
}

/// A whole number, however it is written: what has gone through a table of real numbers is `1.0`.
fn whole(text: &str) -> Option<i64> {
    let whole =
        text.split_once('.').filter(|(_, rest)| rest.bytes().all(|b| b == b'0')).map(|(whole, _)| whole);
    whole.unwrap_or(text).parse().ok()
}

impl Table {
    fn read(path: &Path) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("csv") => Self::csv(path),
            Some("jsonl") => Self::jsonl(path),
            Some("parquet") => Self::parquet(path),
            _ => Self::edm(path),
        }
    }

    fn csv(path: &Path) -> Result<Self> {
        let text = text(path)?;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let names: Vec<String> = reader.headers()?.iter().map(|name| name.trim().to_string()).collect();
        let mut columns = vec![Vec::new(); names.len()];
        for record in reader.records() {
            for (column, text) in columns.iter_mut().zip(record?.iter()) {
                column.push(if text.is_empty() { Cell::Missing } else { Cell::Text(text.into()) });
            }
        }
        // All is text in CSV; a column of numbers alone is one of numbers.
        for column in &mut columns {
            let number = |cell: &Cell| match cell {
                Cell::Text(text) => whole(text.trim()).map(Cell::Integer),
                other => Some(other.clone()),
            };
            if let Some(numbers) = column.iter().map(number).collect::<Option<Vec<_>>>() {
                *column = numbers;
            }
        }
        Self::of(names, columns)
    }

    fn jsonl(path: &Path) -> Result<Self> {
        let mut names: Vec<String> = Vec::new();
        let mut columns: Vec<Vec<Cell>> = Vec::new();
        let mut odd: BTreeSet<String> = BTreeSet::new();
        let text = text(path)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        for (row, (line, text)) in lines.enumerate() {
            let object: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(text).with_context(|| format!("line {}", line + 1))?;
            for (name, value) in object {
                let at = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                    names.push(name.clone());
                    columns.push(Vec::new());
                    names.len() - 1
                });
                columns[at].resize(row, Cell::Missing);
                columns[at].push(match value {
                    serde_json::Value::Null => Cell::Missing,
                    serde_json::Value::String(text) => Cell::Text(text),
                    serde_json::Value::Bool(value) => Cell::Integer(value.into()),
                    other => match other.is_number().then(|| whole(&other.to_string())).flatten() {
                        Some(number) => Cell::Integer(number),
                        None => {
                            odd.insert(name);
                            Cell::Text(other.to_string())
                        }
                    },
                });
            }
        }
        let rows = columns.iter().map(Vec::len).max().unwrap_or(0);
        columns.iter_mut().for_each(|column| column.resize(rows, Cell::Missing));
        let mut table = Self::of(names, columns)?;
        table.columns.iter_mut().filter(|c| odd.contains(&c.name)).for_each(|c| c.holds = Holds::Nothing);
        Ok(table)
    }

    fn parquet(path: &Path) -> Result<Self> {
        let footer = Footer::read(path.into(), path.display().to_string())?;
        let (mut names, mut columns) = (Vec::new(), Vec::new());
        for column in &footer.columns {
            if matches!(column.holds, Holds::Integers | Holds::Others) {
                let mut cells = Vec::new();
                let read = footer.labels(&column.name, &mut |_, cell| {
                    cells.push(cell.clone());
                    Ok(())
                });
                // Real numbers, which nobody needs here.
                if read.is_ok() {
                    names.push(column.name.clone());
                    columns.push(cells);
                }
            }
        }
        Self::of(names, columns)
    }

    /// `{"labels": [["00000/img00000000.png", 6], …]}`, or null in place of the list.
    fn edm(path: &Path) -> Result<Self> {
        let json: serde_json::Value = serde_json::from_str(&text(path)?)?;
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        let labelled = !json["labels"].is_null();
        if labelled {
            for entry in json["labels"].as_array().context("`labels` is no list")? {
                let name = entry.get(0).and_then(serde_json::Value::as_str);
                let name = name.with_context(|| format!("{entry} is no pair of a file and its label"))?;
                let Some(label) = entry.get(1).and_then(serde_json::Value::as_i64) else {
                    bail!(
                        "{name}: its label {} is no number of a class",
                        entry.get(1).unwrap_or(&serde_json::Value::Null)
                    )
                };
                rows.push(name.to_string());
                labels.push(Cell::Integer(label));
            }
        }
        let column = Column { name: "label".into(), holds: Holds::Integers, ..Column::default() };
        let columns = if labelled { vec![column] } else { Vec::new() };
        Ok(Self { rows, cells: if labelled { vec![labels] } else { Vec::new() }, columns, edm: true })
    }

    fn of(names: Vec<String>, mut cells: Vec<Vec<Cell>>) -> Result<Self> {
        ensure!(!names.is_empty(), "an empty file; a first line with {FILE_NAME} names the columns");
        let Some(at) = names.iter().position(|name| name == FILE_NAME) else {
            bail!("no column {FILE_NAME} that names the pictures; there are {}", names.join(", "))
        };
        let text = |(row, cell): (usize, Cell)| match cell {
            Cell::Text(text) => Ok(text),
            Cell::Integer(number) => Ok(number.to_string()),
            Cell::Missing => bail!("row {row} names no picture"),
        };
        let rows = cells.remove(at).into_iter().enumerate().map(text).collect::<Result<_>>()?;
        let holds = |cells: &[Cell]| match cells.iter().all(|cell| !matches!(cell, Cell::Text(_))) {
            true => Holds::Integers,
            false => Holds::Others,
        };
        let names = names.into_iter().enumerate().filter(|(i, _)| *i != at).map(|(_, name)| name);
        let columns = names
            .zip(&cells)
            .map(|(name, cells)| Column { name, holds: holds(cells), ..Column::default() })
            .collect();
        Ok(Self { rows, columns, cells, edm: false })
    }

    /// The pictures below `part` that it names, by path, with the column's cell.
    fn assign(
        &self,
        above: &Path,
        part: &Path,
        label: Option<&str>,
        name: &str,
    ) -> Result<HashMap<PathBuf, Option<Cell>>> {
        let cells = label
            .and_then(|label| self.columns.iter().position(|c| c.name == label))
            .map(|at| &self.cells[at]);
        let mut named = HashMap::new();
        for (row, file) in self.rows.iter().enumerate() {
            let path = PathBuf::from(file.replace('\\', "/"));
            let inner: PathBuf = path.components().filter(|c| *c != Component::CurDir).collect();
            if !inner.components().all(|c| matches!(c, Component::Normal(_))) {
                bad_input!("{name}: {file} is not below its folder")
            }
            let path = above.join(inner);
            if !path.starts_with(part) {
                continue;
            }
            if named.insert(path, cells.map(|cells| cells[row].clone())).is_some() {
                bad_input!("{name}: {file} is named twice")
            }
        }
        Ok(named)
    }
}

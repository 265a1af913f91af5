//! The parts of a dataset in Parquet, configurations and splits, by the names of its files and folders alone, as the Hub's
//! libraries tell them.

use crate::selection::Selection;
use anyhow::Result;
use stage::{bad_input, nearest};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Names of splits.
const SPLITS: [&str; 10] =
    ["train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation"];
/// What a configuration without a name is called on the command line.
const UNNAMED: &str = ".";

/// Whether a folder or file of this name is a split, perhaps with its year, as `train2017`.
pub(crate) fn is_split(name: &str) -> bool {
    let word = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let year = if name.len() - word.len() == 4 { word } else { name };
    SPLITS.iter().any(|split| split.eq_ignore_ascii_case(year))
}

/// Where a file belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Empty where there is none.
    pub(crate) config: String,
    pub(crate) split: Option<String>,
}

/// Where the path of a Parquet file puts it.
pub(crate) fn place(path: &Path) -> Place {
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    let stem = path.file_stem().map(text).unwrap_or_default();
    let mut folders: Vec<String> = path.parent().into_iter().flatten().map(text).collect();
    folders.retain(|folder| folder != "data");
    let (name, numbered) = without_number(&stem);
    let word = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    let mut split = None;
    if numbered && word {
        // `train-00000-of-00002`, as the Hub writes it.
        split = Some(name.to_string());
    } else if let Some((before, found)) = keyword(name) {
        split = Some(found.to_string());
        if !before.is_empty() {
            folders.push(before.to_string());
        }
    } else if let Some(at) = folders.iter().rposition(|folder| is_split(folder)) {
        split = Some(folders.remove(at));
    } else if folders.len() > 1 && name.len() >= 4 && name.bytes().all(|b| b.is_ascii_digit()) {
        // `CONFIG/SPLIT/0000`, as in refs/convert/parquet.
        split = folders.pop();
    } else if let Some(at) = folders.iter().rposition(|folder| keyword(folder).is_some()) {
        let folder = folders.remove(at);
        if let Some((before, found)) = keyword(&folder) {
            split = Some(found.to_string());
            if !before.is_empty() {
                folders.insert(at, before.to_string());
            }
        }
    }
    Place { config: folders.join("/"), split }
}

/// `train` of `train-00000-of-00002` or `train-00000-of-00002-0123abcd`, and whether there was a number.
fn without_number(stem: &str) -> (&str, bool) {
    numbered(stem).map_or((stem, false), |(name, ..)| (name, true))
}

/// `train`, `00000` and `00002` of `train-00000-of-00002` or `train-00000-of-00002-0123abcd`.
fn numbered(stem: &str) -> Option<(&str, &str, &str)> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (before, after) = stem.rsplit_once("-of-")?;
    let total = after.split('-').next().unwrap_or_default();
    let (name, this) = before.rsplit_once('-')?;
    (number(this) && number(total)).then_some((name, this, total))
}

/// Files that say in their names how many there should be, where fewer are there.
fn gaps(files: &[PathBuf]) -> Vec<String> {
    let mut sets: BTreeMap<(&Path, &str, &str), BTreeSet<usize>> = BTreeMap::new();
    for file in files {
        let stem = file.file_stem().and_then(|stem| stem.to_str()).and_then(numbered);
        let Some((name, this, total)) = stem else { continue };
        let folder = file.parent().unwrap_or(Path::new(""));
        sets.entry((folder, name, total)).or_default().extend(this.parse::<usize>().ok());
    }
    let gap = |((folder, name, total), there): (_, BTreeSet<usize>)| {
        let count = str::parse::<usize>(total).ok()?;
        let missing = (0..count).find(|number| !there.contains(number))?;
        let missing = format!("{name}-{missing:0width$}-of-{total}.parquet", width = total.len());
        let missing = Path::join(folder, missing);
        Some(format!(
            "{} of {count} files of {name}; the first missing is {}",
            there.len(),
            missing.display()
        ))
    };
    sets.into_iter().filter_map(gap).collect()
}

/// The first split that a name holds as a word of its own, and what stands before it.
fn keyword(name: &str) -> Option<(&str, &str)> {
    let separator = |c: char| matches!(c, '-' | '.' | '_' | ' ');
    let mut start = 0;
    for part in name.split(separator) {
        if is_split(part) {
            return Some((name[..start].trim_end_matches(separator), part));
        }
        start += part.len() + 1;
    }
    None
}

/// The chosen configuration among these.
///
/// # Errors
/// Bad input that names them where one must be chosen.
pub(crate) fn config(all: &BTreeSet<String>, selection: &Selection) -> Result<String> {
    let shown = |config: &String| if config.is_empty() { UNNAMED.to_string() } else { config.clone() };
    let names = || all.iter().map(shown).collect::<Vec<_>>().join(", ");
    match (&selection.config, all.len()) {
        (None, 0) => Ok(String::new()),
        (None, 1) => Ok(all.first().cloned().unwrap_or_default()),
        (None, _) => bad_input!(
            "{}: several configurations: {}; {}",
            selection.source,
            names(),
            selection.choose("config")
        ),
        (Some(wanted), _) => {
            let meant = if wanted == UNNAMED { "" } else { wanted };
            if let Some(found) = all.iter().find(|config| *config == meant) {
                return Ok(found.clone());
            }
            let near = nearest(wanted, all.iter().map(String::as_str));
            let hint = near.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
            match all.iter().any(|config| !config.is_empty()) {
                true => bad_input!("--config {wanted}: {} has {}{hint}", selection.source, names()),
                false => bad_input!("--config {wanted}: {} has no configurations", selection.source),
            }
        }
    }
}

/// The chosen split among these; none where there are none and none is asked for by name.
///
/// # Errors
/// Bad input that names them where there is no such split.
pub(crate) fn split(all: &BTreeSet<String>, selection: &Selection) -> Result<Option<String>> {
    let names = all.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    match (&selection.split, all.len()) {
        (None, 0) => Ok(None),
        // What has no splits is what one trains on.
        (Some(wanted), 0) if wanted == "train" => Ok(None),
        (Some(wanted), 0) => bad_input!(
            "--split {wanted}: {} has no splits; its files and folders name none",
            selection.source
        ),
        (None, 1) => Ok(all.first().cloned()),
        (None, _) => bad_input!("{}: the splits {names}; {}", selection.source, selection.choose("split")),
        (Some(wanted), _) => {
            let exact = all.iter().find(|split| *split == wanted);
            let found = exact.or_else(|| all.iter().find(|split| split.eq_ignore_ascii_case(wanted)));
            match found {
                Some(found) => Ok(Some(found.clone())),
                None => bad_input!("--split {wanted}: the dataset has {names}"),
            }
        }
    }
}

/// The Parquet files of the chosen configuration, the chosen split's first.
#[derive(Debug, PartialEq)]
pub struct Part {
    /// Files of the split that was asked for, in order.
    pub files: Vec<PathBuf>,
    /// Files of the same configuration's other splits, in order.
    pub others: Vec<PathBuf>,
    /// The split, where names tell them apart.
    pub split: Option<String>,
    /// What was left out without being of another split, or is not there.
    pub notes: Vec<String>,
}

impl Part {
    /// Chooses among files by their names alone.
    ///
    /// # Errors
    /// Bad input that names the configurations or splits that there are.
    pub fn choose(files: Vec<PathBuf>, selection: &Selection) -> Result<Self> {
        let places: Vec<Place> = files.iter().map(|file| place(file)).collect();
        let config = config(&places.iter().map(|place| place.config.clone()).collect(), selection)?;
        let chosen = files.into_iter().zip(places).filter(|(_, place)| place.config == config);
        let chosen: Vec<(PathBuf, Option<String>)> =
            chosen.map(|(file, place)| (file, place.split)).collect();
        let split = split(&chosen.iter().filter_map(|(_, split)| split.clone()).collect(), selection)?;
        let (files, rest): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|(_, of)| *of == split);
        let loose: Vec<&PathBuf> = rest.iter().filter(|(_, of)| of.is_none()).map(|(file, _)| file).collect();
        let notes = loose.first().map(|first| match loose.len() {
            1 => format!("ignored: a Parquet file of no split ({})", first.display()),
            count => format!("ignored: {count} Parquet files of no split (first: {})", first.display()),
        });
        let files: Vec<PathBuf> = files.into_iter().map(|(file, _)| file).collect();
        let notes = notes.into_iter().chain(gaps(&files)).collect();
        let others = rest.into_iter().filter(|(_, of)| of.is_some()).map(|(file, _)| file).collect();
        Ok(Self { files, others, split, notes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    fn choose(files: &[&str], split: &str, config: Option<&str>) -> Result<Vec<PathBuf>> {
        let selection = Selection {
            split: Some(split.into()),
            config: config.map(String::from),
            flags: true,
            ..Selection::default()
        };
        Ok(Part::choose(paths(files), &selection)?.files)
    }

    #[test]
    fn paths_name_configuration_and_split() {
        for (path, config, split) in [
            ("train.parquet", "", Some("train")),
            ("test-1.parquet", "", Some("test")),
            ("data/train-00000-of-00002-0123abcd.parquet", "", Some("train")),
            ("plain_text/test-00000-of-00001.parquet", "plain_text", Some("test")),
            ("default/unlabeled/0000.parquet", "default", Some("unlabeled")),
            ("default/partial-train/0000.parquet", "default", Some("partial-train")),
            ("32x32/train/0000.parquet", "32x32", Some("train")),
            ("32x32/0000.parquet", "32x32", None),
            ("data/32x32/Val/part.parquet", "32x32", Some("Val")),
            ("train/32x32/part.parquet", "32x32", Some("train")),
            ("mnist_train.parquet", "mnist", Some("train")),
            ("train_images/0.parquet", "", Some("train")),
            ("full-00000-of-00001.parquet", "", Some("full")),
            ("a.parquet", "", None),
            ("data/a.parquet", "", None),
            ("trained.parquet", "", None),
            ("test1.parquet", "", None),
            ("train2017/0.parquet", "", Some("train2017")),
        ] {
            let expected = Place { config: config.into(), split: split.map(String::from) };
            assert_eq!(place(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn the_split_that_was_asked_for_and_nothing_else() {
        let hub = ["data/test-00000-of-00001.parquet", "data/train-00000-of-00002.parquet"];
        assert_eq!(choose(&hub, "train", None).unwrap(), paths(&hub[1..]));
        let error = choose(&hub, "validation", None).unwrap_err();
        assert_eq!(format!("{error}"), "--split validation: the dataset has test, train");
        let converted = ["default/test/0000.parquet", "default/train/0000.parquet"];
        assert_eq!(choose(&converted, "test", None).unwrap(), paths(&converted[..1]));
        let plain = ["a.parquet", "b.parquet"];
        assert_eq!(choose(&plain, "train", None).unwrap(), paths(&plain));
        assert!(choose(&plain, "test", None).is_err());
        assert_eq!(choose(&["data/a.parquet"], "train", None).unwrap(), paths(&["data/a.parquet"]));
        assert_eq!(
            choose(&["train.parquet", "extra.parquet"], "train", None).unwrap(),
            paths(&["train.parquet"])
        );
    }

    #[test]
    fn a_file_that_is_missing_is_told_by_the_names_of_the_others() {
        let notes = |files: &[&str]| {
            let selection = Selection { split: Some("train".into()), ..Selection::default() };
            Part::choose(paths(files), &selection).unwrap().notes
        };
        assert_eq!(
            notes(&["data/train-00000-of-00003.parquet", "data/train-00002-of-00003.parquet"]),
            ["2 of 3 files of train; the first missing is data/train-00001-of-00003.parquet"]
        );
        let whole = ["train-00000-of-00002-0a.parquet", "train-00001-of-00002-0b.parquet"];
        assert!(notes(&whole).is_empty() && notes(&["train-0.parquet", "train-2.parquet"]).is_empty());
    }

    #[test]
    fn several_configurations_wait_for_a_choice() {
        let files = ["a/test/0000.parquet", "a/train/0000.parquet", "b/train/0000.parquet"];
        let error = choose(&files, "train", None).unwrap_err().to_string();
        assert!(error.contains("several configurations: a, b") && error.contains("--config"), "{error}");
        assert_eq!(choose(&files, "train", Some("b")).unwrap(), paths(&files[2..]));
        let error = choose(&files, "train", Some("bb")).unwrap_err().to_string();
        assert!(error.contains("has a, b; did you mean b?"), "{error}");
        let mixed = ["train.parquet", "old/train.parquet"];
        assert!(choose(&mixed, "train", None).unwrap_err().to_string().contains("., old"));
        assert_eq!(choose(&mixed, "train", Some(".")).unwrap(), paths(&mixed[..1]));
    }
}

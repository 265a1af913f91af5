//! What a folder holds: Parquet files, a folder per class, or pictures.

use anyhow::Result;
use stage::{BadInputExt, bad_input};
use std::fs;
use std::path::{Path, PathBuf};

/// Endings of files that are taken for pictures.
const PICTURES: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

stage::choice! {
    /// What happens to labels.
    pub enum Labels {
        /// They stay.
        Keep = "keep",
        /// They go.
        Drop = "drop",
    }
}

/// A dataset on disk; all paths are relative to its folder, sorted.
#[derive(Debug, PartialEq)]
pub enum Source {
    /// Parquet files, of which each has a column `image`.
    Parquet(Vec<PathBuf>),
    /// Pictures, each in the folder of its class.
    Tree {
        /// Names of the classes, in the order of their numbers.
        classes: Vec<String>,
        /// Every picture with the number of its class.
        files: Vec<(PathBuf, Option<i64>)>,
    },
    /// Pictures without classes.
    Flat(Vec<(PathBuf, Option<i64>)>),
}

impl Source {
    /// Looks into `folder`.
    ///
    /// # Errors
    /// Bad input when it is no dataset, or two kinds at once.
    pub fn find(folder: &Path, split: &str) -> Result<Self> {
        let mut all = Vec::new();
        walk(folder, Path::new(""), &mut all).bad_input(|| format!("reading {}", folder.display()))?;
        all.sort();
        let parquet: Vec<PathBuf> = all.iter().filter(|p| ending(p) == "parquet").cloned().collect();
        let pictures: Vec<PathBuf> =
            all.into_iter().filter(|p| PICTURES.contains(&ending(p).as_str())).collect();
        match (parquet.is_empty(), pictures.is_empty()) {
            (true, true) => bad_input!(
                "--folder {}: neither Parquet files nor pictures ({}) in it",
                folder.display(),
                PICTURES.join(", ")
            ),
            (false, true) => Ok(Self::Parquet(part(parquet, split)?)),
            (false, false) => bad_input!(
                "--folder {}: both Parquet files ({}) and pictures ({}); move one kind away",
                folder.display(),
                parquet[0].display(),
                pictures[0].display()
            ),
            (true, false) => Self::pictures(folder, pictures),
        }
    }

    fn pictures(folder: &Path, pictures: Vec<PathBuf>) -> Result<Self> {
        let class = |p: &Path| match p.iter().count() {
            1 => None,
            _ => p.iter().next().map(|part| part.to_string_lossy().into_owned()),
        };
        let mut classes: Vec<String> = pictures.iter().filter_map(|p| class(p)).collect();
        classes.dedup();
        if classes.is_empty() {
            return Ok(Self::Flat(pictures.into_iter().map(|p| (p, None)).collect()));
        }
        if let Some(loose) = pictures.iter().find(|p| class(p).is_none()) {
            bad_input!(
                "--folder {}: {} stands beside folders of pictures ({}, …); is each folder a class, or none?",
                folder.display(),
                loose.display(),
                classes[0]
            )
        }
        classes.sort();
        let number = |p: &Path| class(p).and_then(|c| classes.binary_search(&c).ok()).map(|n| n as i64);
        let files = pictures.iter().map(|p| (p.clone(), number(p))).collect();
        Ok(Self::Tree { classes, files })
    }
}

/// The files of one part, where the names tell parts apart.
pub fn part(files: Vec<PathBuf>, split: &str) -> Result<Vec<PathBuf>> {
    let name = |path: &PathBuf| {
        let file = path.file_stem()?.to_string_lossy().into_owned();
        // `train-00000-of-00002`, as the Hub writes it; else the folder, as `refs/convert/parquet` does.
        match file.split_once('-') {
            Some((name, rest)) if rest.contains("-of-") => Some(name.to_string()),
            _ => path.parent()?.file_name().map(|folder| folder.to_string_lossy().into_owned()),
        }
    };
    let mut names: Vec<String> = files.iter().filter_map(name).collect();
    names.sort();
    names.dedup();
    if names.is_empty() || names == ["data"] {
        return Ok(files);
    }
    let taken: Vec<PathBuf> = files.into_iter().filter(|f| name(f).as_deref() == Some(split)).collect();
    if taken.is_empty() {
        bad_input!("--split {split}: the dataset has {}", names.join(", "))
    }
    Ok(taken)
}

fn ending(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// Every file below `folder/inner`, hidden ones aside.
fn walk(folder: &Path, inner: &Path, all: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder.join(inner))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = inner.join(entry.file_name());
        // A link counts as what it points to: datasets are often farms of links.
        if fs::metadata(entry.path())?.is_dir() {
            walk(folder, &path, all)?;
        } else {
            all.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_by_file_or_folder() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let hub = paths(&["data/test-00000-of-00001.parquet", "data/train-00000-of-00002.parquet"]);
        assert_eq!(part(hub.clone(), "train").unwrap(), hub[1..]);
        let error = part(hub, "validation").unwrap_err();
        assert_eq!(format!("{error}"), "--split validation: the dataset has test, train");
        let converted = paths(&["default/test/0000.parquet", "default/train/0000.parquet"]);
        assert_eq!(part(converted.clone(), "test").unwrap(), converted[..1]);
        let plain = paths(&["a.parquet", "b.parquet"]);
        assert_eq!(part(plain.clone(), "train").unwrap(), plain);
        let data = paths(&["data/a.parquet"]);
        assert_eq!(part(data.clone(), "train").unwrap(), data);
    }
}

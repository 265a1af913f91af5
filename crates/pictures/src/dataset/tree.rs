//! Folders of pictures: which of them are configurations, splits and classes.

use super::parts::{self, is_split};
use super::walk::Listing;
use crate::labels::{Labels, out_of_order};
use crate::selection::Selection;
use anyhow::Result;
use stage::bad_input;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What the folders say.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The folder that holds the chosen part; empty where that is the whole.
    pub(crate) root: PathBuf,
    /// Folders of the same configuration's splits, the chosen one among them.
    roots: Vec<PathBuf>,
    /// Folders above, each the only one in the one before, that might be meant as a class themselves.
    wrapped: bool,
    index: Index,
}

/// What a folder holds.
#[derive(Debug, Default)]
struct Inside {
    /// Whether pictures lie in it, not deeper.
    direct: bool,
    /// Its folders with pictures below them.
    folders: BTreeSet<String>,
}

/// Every folder with pictures below it.
#[derive(Debug)]
struct Index(BTreeMap<PathBuf, Inside>);

impl Tree {
    /// Finds the chosen part of the pictures of a listing.
    ///
    /// # Errors
    /// Bad input that names the configurations or splits that there are, or what cannot be told apart.
    pub(crate) fn find(listing: &Listing, selection: &Selection) -> Result<Self> {
        let index = Index::of(listing, selection)?;
        let mut top = PathBuf::new();
        let mut wrapped = false;
        loop {
            let here = index.at(&top);
            if here.direct || here.folders.is_empty() {
                break;
            }
            if let Some((root, roots)) = index.parts(selection, &top, here)? {
                return Ok(Self { root, roots, wrapped: false, index });
            }
            let Some(only) = here.folders.first().filter(|_| here.folders.len() == 1) else { break };
            let below = top.join(only);
            if index.at(&below).direct {
                break;
            }
            top = below;
            wrapped = true;
        }
        parts::config(&BTreeSet::new(), selection)?;
        parts::split(&BTreeSet::new(), selection)?;
        Ok(Self { roots: vec![top.clone()], root: top, wrapped, index })
    }

    /// The pictures of the chosen part.
    pub(crate) fn pictures<'a>(&'a self, listing: &'a Listing) -> impl Iterator<Item = &'a PathBuf> {
        listing.pictures.iter().filter(|path| path.starts_with(&self.root))
    }

    /// Whether folders could be classes.
    pub(crate) fn has_folders(&self) -> bool {
        let here = self.index.at(&self.root);
        !here.direct && !here.folders.is_empty()
    }

    /// The classes that the folders make, none where the pictures lie in no folders of their own.
    ///
    /// # Errors
    /// Bad input when it is not clear which folders are classes.
    pub(crate) fn classes(&self, listing: &Listing, selection: &Selection) -> Result<Option<ByFolder>> {
        if selection.labels == Labels::Drop {
            return Ok(None);
        }
        let here = self.index.at(&self.root);
        if here.folders.is_empty() {
            return Ok(None);
        }
        if here.direct {
            let loose = self.pictures(listing).find(|path| path.parent() == Some(&self.root));
            bad_input!(
                "{}: {} stands beside folders of pictures ({}, …); is each folder a class, or none?",
                selection.source,
                loose.map(|path| path.display().to_string()).unwrap_or_default(),
                here.folders.first().map(String::as_str).unwrap_or_default()
            )
        }
        if self.wrapped && here.folders.len() > 1 {
            bad_input!(
                "{}: all pictures lie in the one folder {}; name that folder if those in it are the classes ({}, …)",
                selection.source,
                self.root.display(),
                here.folders.first().map(String::as_str).unwrap_or_default()
            )
        }
        let (names, other) = self.names(listing, selection)?;
        let missing = names.iter().find(|name| !here.folders.contains(*name));
        let kept =
            |name| format!("class {name} has no pictures in {}; it keeps its number", self.root.display());
        let mut notes: Vec<String> = missing.map(kept).into_iter().collect();
        notes.extend(other.map(|other| {
            format!(
                "the folders in {} are none of {}'s; classes are those of it alone",
                other.display(),
                self.root.display()
            )
        }));
        notes.extend(out_of_order(&names, "folder"));
        Ok(Some(ByFolder { names, notes }))
    }

    /// The names of the classes, sorted, and a split that holds its pictures otherwise, if there is one.
    fn names(&self, listing: &Listing, selection: &Selection) -> Result<(Vec<String>, Option<&PathBuf>)> {
        let of = |root: &PathBuf| &self.index.at(root).folders;
        // A class has its number in every split that has some of the same classes.
        let (alike, others): (Vec<&PathBuf>, Vec<&PathBuf>) =
            self.roots.iter().partition(|root| !of(root).is_disjoint(of(&self.root)));
        let names: BTreeSet<&String> = alike.iter().flat_map(|root| of(root)).collect();
        for folder in
            listing.folders.iter().filter(|f| alike.iter().any(|root| f.parent() == Some(root.as_path())))
        {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !names.contains(&name) {
                bad_input!(
                    "{}: no picture in {}; remove it if it is no class, else its pictures are missing",
                    selection.source,
                    folder.display()
                )
            }
        }
        let other = others.into_iter().find(|root| !of(root).is_empty());
        Ok((names.into_iter().cloned().collect(), other))
    }

    /// The folder that is a picture's class.
    pub(crate) fn class<'a>(&self, picture: &'a Path) -> Option<&'a str> {
        picture.strip_prefix(&self.root).ok()?.iter().next()?.to_str()
    }
}

/// Classes that are folders.
#[derive(Debug)]
pub(crate) struct ByFolder {
    /// Their names, sorted.
    pub(crate) names: Vec<String>,
    /// What a person should know of them.
    pub(crate) notes: Vec<String>,
}

impl Index {
    fn of(listing: &Listing, selection: &Selection) -> Result<Self> {
        let mut index: BTreeMap<PathBuf, Inside> = BTreeMap::new();
        for picture in &listing.pictures {
            let folder = picture.parent().unwrap_or(Path::new(""));
            if let Some(known) = index.get_mut(folder) {
                known.direct = true;
                continue;
            }
            index.insert(folder.into(), Inside { direct: true, ..Inside::default() });
            for below in folder.ancestors() {
                let (Some(above), Some(name)) = (below.parent(), below.file_name()) else { break };
                let Some(name) = name.to_str() else {
                    bad_input!(
                        "{}: the name of the folder {} is no UTF-8; rename it",
                        selection.source,
                        below.display()
                    )
                };
                let above = index.entry(above.into()).or_default();
                if !above.folders.insert(name.into()) {
                    break;
                }
            }
        }
        Ok(Self(index))
    }

    fn at(&self, folder: &Path) -> &Inside {
        static NOTHING: Inside = Inside { direct: false, folders: BTreeSet::new() };
        self.0.get(folder).unwrap_or(&NOTHING)
    }

    /// The chosen folder and its like, where the folders in `top` are splits, or configurations of splits.
    fn parts(
        &self,
        selection: &Selection,
        top: &Path,
        here: &Inside,
    ) -> Result<Option<(PathBuf, Vec<PathBuf>)>> {
        let splits =
            |inside: &Inside| !inside.folders.is_empty() && inside.folders.iter().all(|name| is_split(name));
        let below = |name: &String| self.at(&top.join(name));
        if splits(here) {
            parts::config(&BTreeSet::new(), selection)?;
            return chosen(top, here, selection).map(Some);
        }
        if here.folders.iter().map(below).all(|inside| !inside.direct && splits(inside)) {
            let config = parts::config(&here.folders, selection)?;
            return chosen(&top.join(&config), below(&config), selection).map(Some);
        }
        let (called, others): (Vec<_>, Vec<_>) = here.folders.iter().partition(|name| is_split(name));
        // A train among planes and cars is a class; beside others of its kind, or with folders in it, hardly.
        let deep = called.iter().any(|name| !below(name).direct);
        if called.len() > 1 || deep {
            bad_input!(
                "{}: {} could be a split, but {} beside it is none; name the folder that is meant, or move the other away",
                selection.source,
                top.join(called[0]).display(),
                others.first().map(|other| other.as_str()).unwrap_or_default()
            )
        }
        Ok(None)
    }
}

fn chosen(top: &Path, here: &Inside, selection: &Selection) -> Result<(PathBuf, Vec<PathBuf>)> {
    let split = parts::split(&here.folders, selection)?.unwrap_or_default();
    Ok((top.join(split), here.folders.iter().map(|name| top.join(name)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(pictures: &[&str], folders: &[&str]) -> Listing {
        let mut listing =
            Listing { pictures: pictures.iter().map(PathBuf::from).collect(), ..Listing::default() };
        let above = listing.pictures.iter().flat_map(|p| p.ancestors().skip(1)).map(PathBuf::from);
        listing.folders =
            above.chain(folders.iter().map(PathBuf::from)).filter(|f| !f.as_os_str().is_empty()).collect();
        listing.pictures.sort();
        listing
    }

    fn selection(split: &str) -> Selection {
        Selection { split: Some(split.into()), insist: true, ..Selection::default() }
    }

    fn names(listing: &Listing, split: &str) -> Result<(PathBuf, Option<Vec<String>>)> {
        let tree = Tree::find(listing, &selection(split))?;
        let classes = tree.classes(listing, &selection(split))?;
        Ok((tree.root.clone(), classes.map(|classes| classes.names)))
    }

    fn some(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|name| name.to_string()).collect())
    }

    #[test]
    fn folders_are_classes_or_splits_of_them() {
        let plain = listing(&["ant/0.png", "bee/deep/0.png"], &[]);
        assert_eq!(names(&plain, "train").unwrap(), (PathBuf::new(), some(&["ant", "bee"])));
        assert!(names(&plain, "val").unwrap_err().to_string().contains("has no splits"));
        let flat = listing(&["0.png", "1.png"], &["empty"]);
        assert_eq!(names(&flat, "train").unwrap(), (PathBuf::new(), None));

        let split = listing(&["train/ant/0.png", "train/bee/0.png", "Val/bee/0.png"], &["train/cow"]);
        let error = names(&split, "train").unwrap_err().to_string();
        assert!(error.contains("no picture in train/cow"), "{error}");
        let split = listing(&["train/ant/0.png", "train/bee/0.png", "Val/bee/0.png"], &[]);
        // bee is class 1 there too.
        assert_eq!(names(&split, "val").unwrap(), ("Val".into(), some(&["ant", "bee"])));
        assert!(names(&split, "test").unwrap_err().to_string().contains("the dataset has Val, train"));
    }

    #[test]
    fn a_train_among_planes_is_a_class_and_doubt_is_refused() {
        let vehicles = listing(&["car/0.png", "plane/0.png", "train/0.png"], &[]);
        assert_eq!(names(&vehicles, "train").unwrap().1, some(&["car", "plane", "train"]));
        let doubt = listing(&["extra/0.png", "train/ant/0.png"], &[]);
        assert!(
            names(&doubt, "train").unwrap_err().to_string().contains("train could be a split, but extra")
        );
        let loose = listing(&["0.png", "ant/0.png"], &[]);
        assert!(names(&loose, "train").unwrap_err().to_string().contains("0.png stands beside folders"));
        let wrapped = listing(&["set/ant/0.png", "set/bee/0.png"], &[]);
        assert!(names(&wrapped, "train").unwrap_err().to_string().contains("the one folder set"));
        let wrapped = listing(&["set/train/ant/0.png", "set/train/bee/0.png", "set/test/ant/0.png"], &[]);
        assert_eq!(names(&wrapped, "test").unwrap(), ("set/test".into(), some(&["ant", "bee"])));
    }

    #[test]
    fn configurations_of_splits_wait_for_a_choice() {
        let sizes = listing(&["32/train/ant/0.png", "64/train/ant/0.png", "64/val/ant/0.png"], &[]);
        assert!(names(&sizes, "train").unwrap_err().to_string().contains("several configurations: 32, 64"));
        let chosen = Selection { config: Some("64".into()), ..selection("val") };
        assert_eq!(Tree::find(&sizes, &chosen).unwrap().root, Path::new("64/val"));
    }

    #[test]
    fn a_split_of_other_folders_changes_no_number() {
        let tiny = listing(&["train/n01/images/0.png", "train/n02/images/0.png", "val/images/0.png"], &[]);
        assert_eq!(names(&tiny, "train").unwrap().1, some(&["n01", "n02"]));
        assert_eq!(names(&tiny, "val").unwrap().1, some(&["images"]));
    }
}

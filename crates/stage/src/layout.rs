//! What a program leaves behind, by which it knows an earlier output of its own.

use crate::staging::{gone, is_left, remove_staging};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The file that says whose state a folder is; every layout of a state has it.
pub const MARK: &str = "made-by";

/// How a program knows what an earlier run of it has put at an output. Everything else belongs to the user and is refused.
pub enum Known<A> {
    /// A file, by its content.
    File(fn(&A, &Path) -> Result<bool>),
    /// A folder.
    Folder(Layout),
}

impl<A> Known<A> {
    /// A file that cannot be told from any other of its kind: one that is there is always refused.
    pub const NEVER: Self = Self::File(|_, _| Ok(false));
}

/// The files that a program leaves in a folder.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Their paths below the folder; `#` stands for a number, `*` for any part of a name.
    pub files: &'static [&'static str],
    /// Looks into files that have the right names; gives the first that is not what its name says.
    pub check: fn(&Path) -> Result<Option<PathBuf>>,
}

impl Layout {
    /// A layout that is known by its names alone.
    pub const fn of(files: &'static [&'static str]) -> Self {
        Self { files, check: |_| Ok(None) }
    }

    /// The first entry of `folder`, as a path below it, that this program did not make.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn foreign(&self, folder: &Path) -> Result<Option<PathBuf>> {
        let context = || format!("reading {}", folder.display());
        let mut files = 0;
        let mut count = |_: &Path, entry| {
            files += usize::from(matches!(entry, Entry::File));
            Ok(())
        };
        match self.walk(folder, Path::new(""), &mut count).with_context(context)? {
            None if files > 0 => (self.check)(folder).with_context(context),
            foreign => Ok(foreign),
        }
    }

    /// Removes what bears the names of this layout, and the folder where nothing else is in it; gives the first entry that is
    /// left.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub(crate) fn remove(&self, folder: &Path) -> Result<Option<PathBuf>> {
        let context = || format!("removing {}", folder.display());
        let left = self.walk(folder, Path::new(""), &mut remove).with_context(context)?;
        if left.is_none() {
            gone(fs::remove_dir(folder)).with_context(context)?;
        }
        Ok(left)
    }

    /// Hands every entry that is ours to `visit`, children before their folder; gives the first other one.
    fn walk(
        &self,
        root: &Path,
        below: &Path,
        visit: &mut dyn FnMut(&Path, Entry) -> io::Result<()>,
    ) -> io::Result<Option<PathBuf>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(root.join(below))? {
            let entry = entry?;
            names.push((entry.file_name(), entry.file_type()?));
        }
        // A mark goes last: without it nobody would know the rest.
        names.sort_by_key(|(name, _)| (name == MARK, name.clone()));
        let mut foreign = None;
        for (name, kind) in names {
            let (path, place) = (below.join(&name), root.join(below).join(&name));
            if kind.is_file() && self.files.iter().any(|pattern| matches(pattern, &path, false)) {
                visit(&place, Entry::File)?;
            } else if kind.is_dir() && is_left(&place) {
                visit(&place, Entry::Staging)?;
            } else if kind.is_dir() && self.files.iter().any(|pattern| matches(pattern, &path, true)) {
                match self.walk(root, &path, visit)? {
                    None => visit(&place, Entry::Folder)?,
                    Some(first) => foreign = foreign.or(Some(first)),
                }
            } else {
                foreign = foreign.or(Some(path));
            }
        }
        Ok(foreign)
    }
}

/// What an entry of ours is.
#[derive(Clone, Copy)]
enum Entry {
    File,
    Folder,
    /// What a killed run was writing.
    Staging,
}

fn remove(place: &Path, entry: Entry) -> io::Result<()> {
    gone(match entry {
        Entry::File => fs::remove_file(place),
        Entry::Folder => fs::remove_dir(place),
        Entry::Staging => remove_staging(place),
    })
}

/// Whether a path has the names of `pattern`, or where `part` those of a folder on the way.
fn matches(pattern: &str, path: &Path, part: bool) -> bool {
    let (patterns, names): (Vec<&str>, Vec<_>) = (pattern.split('/').collect(), path.iter().collect());
    let length = if part { names.len() < patterns.len() } else { names.len() == patterns.len() };
    length
        && names.iter().zip(&patterns).all(|(name, pattern)| {
            name.to_str().is_some_and(|name| fits(pattern.as_bytes(), name.as_bytes()))
        })
}

fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], _) => name.is_empty(),
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|n| fits(rest, &name[n..])),
        ([b'#', rest @ ..], [digit, after @ ..]) => {
            digit.is_ascii_digit() && (fits(pattern, after) || fits(rest, after))
        }
        ([letter, rest @ ..], [first, after @ ..]) => letter == first && fits(rest, after),
        (_, []) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout::of(&["step-#.safetensors", "images/#.png", "figures/*.svg"]);

    fn fill(folder: &Path, names: &[&str]) {
        for name in names {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
    }

    #[test]
    fn names_are_matched_whole() {
        for (name, ours) in [
            ("step-00000002.safetensors", true),
            ("step-.safetensors", false),
            ("step-2.safetensors.bak", false),
            ("step-2x.safetensors", false),
            ("images/000001.png", true),
            ("images/000001.jpg", false),
            ("images/a/000001.png", false),
            ("figures/loss.svg", true),
        ] {
            assert_eq!(LAYOUT.files.iter().any(|p| matches(p, Path::new(name), false)), ours, "{name}");
        }
    }

    #[test]
    fn what_is_not_ours_is_named_and_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("out");
        fill(&folder, &["step-2.safetensors", "images/1.png"]);
        assert_eq!(LAYOUT.foreign(&folder).unwrap(), None);
        fill(&folder, &["thesis.txt", "images/notes/1.png"]);
        assert_eq!(LAYOUT.foreign(&folder).unwrap(), Some("images/notes".into()));
        assert_eq!(LAYOUT.remove(&folder).unwrap(), Some("images/notes".into()));
        assert!(folder.join("thesis.txt").exists() && folder.join("images/notes/1.png").exists());
        assert!(!folder.join("step-2.safetensors").exists() && !folder.join("images/1.png").exists());
        // A link is not followed.
        std::os::unix::fs::symlink(&folder, folder.join("images/2.png")).unwrap();
        assert_eq!(LAYOUT.foreign(&folder).unwrap(), Some("images/2.png".into()));
    }

    #[test]
    fn a_folder_of_ours_goes_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("out");
        fill(&folder, &["step-2.safetensors", "images/1.png", "figures/a.svg"]);
        assert_eq!(LAYOUT.remove(&folder).unwrap(), None);
        assert!(!folder.exists());
    }
}

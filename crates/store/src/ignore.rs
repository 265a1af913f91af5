//! What does not count in a folder that is an input: what tools and people leave there beside the work.

use ::ignore::Match;
use ::ignore::gitignore::{Gitignore, GitignoreBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What never counts, unless a later line takes it back. The kinds: what Python and Jupyter keep, what editors keep while
/// a file is open, what file managers and NFS leave, what version control keeps, and our own store.
pub const DEFAULT: [&str; 15] = [
    "__pycache__",
    "*.pyc",
    ".ipynb_checkpoints",
    ".*.sw?",
    "*~",
    "\\#*#",
    ".#*",
    ".DS_Store",
    "Thumbs.db",
    ".nfs*",
    ".git",
    ".hg",
    ".svn",
    ".jj",
    ".pipeline",
];

/// Lines of gitignore's syntax, of which the last that says something of a path counts.
#[derive(Clone)]
pub struct Ignore {
    lines: Vec<String>,
    /// Paths are relative to this folder below the one that the lines are about.
    below: PathBuf,
    matcher: Arc<Gitignore>,
}

impl Ignore {
    /// Nothing is ignored.
    pub fn nothing() -> Self {
        Self { lines: Vec::new(), below: PathBuf::new(), matcher: Arc::new(Gitignore::empty()) }
    }

    /// Reads lines of gitignore's syntax.
    ///
    /// # Errors
    /// What is wrong with the first that is none.
    pub fn new<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> Result<Self, String> {
        let mut builder = GitignoreBuilder::new("");
        let lines: Vec<String> = lines.into_iter().map(|line| line.as_ref().to_string()).collect();
        for line in &lines {
            builder.add_line(None, line).map_err(|e| format!("`{line}` is no line of a .gitignore: {e}"))?;
        }
        let matcher = builder.build().map_err(|e| format!("the lines cannot be used together: {e}"))?;
        Ok(Self { lines, below: PathBuf::new(), matcher: Arc::new(matcher) })
    }

    /// The lines that it was made of.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The same lines, for paths relative to a folder below.
    pub fn below(&self, folder: &Path) -> Self {
        Self { below: self.below.join(folder), ..self.clone() }
    }

    /// Whether something does not count; `path` is relative to the folder. What lies in a folder that does not count is
    /// not asked about.
    pub fn matches(&self, path: &Path, folder: bool) -> bool {
        if self.lines.is_empty() {
            return false;
        }
        matches!(self.matcher.matched(self.below.join(path), folder), Match::Ignore(_))
    }
}

impl Serialize for Ignore {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        (&self.lines, &self.below).serialize(s)
    }
}

impl<'de> Deserialize<'de> for Ignore {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let (lines, below) = <(Vec<String>, PathBuf)>::deserialize(d)?;
        Ok(Self::new(lines).map_err(de::Error::custom)?.below(&below))
    }
}

impl fmt::Debug for Ignore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ignore").field(&self.lines).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_leave_does_not_count() {
        let ignore = Ignore::new(DEFAULT).unwrap();
        let left = [
            "__pycache__",
            "a/b/__pycache__",
            "m.cpython-312.pyc",
            ".ipynb_checkpoints",
            ".train.py.swp",
            ".x.swo",
            "a/.x.swx",
            "train.py~",
            "#train.py#",
            ".#train.py",
            ".DS_Store",
            ".git",
            "a/.git",
            ".pipeline",
            ".nfs0001",
        ];
        for path in left {
            assert!(
                ignore.matches(Path::new(path), false) && ignore.matches(Path::new(path), true),
                "{path}"
            );
        }
        let work = [
            "train.py",
            "pycache",
            "a.py",
            "swp",
            "a.swp",
            ".swp",
            "~",
            "x~y",
            "#",
            "a#b#c",
            ".gitignore",
            ".env",
            "git",
            "out",
            "DS_Store",
            ".config/x",
            "caf\u{e9}",
            "pipeline",
        ];
        for path in work.iter().filter(|p| **p != "~") {
            assert!(
                !ignore.matches(Path::new(path), false) && !ignore.matches(Path::new(path), true),
                "{path}"
            );
        }
    }

    #[test]
    fn the_last_line_counts() {
        let ignore =
            Ignore::new(DEFAULT.into_iter().chain(["*.log", "!keep.log", "/top", "only/", "!*.pyc"]))
                .unwrap();
        let is = |path: &str| ignore.matches(Path::new(path), false);
        assert!(is("a.log") && is("d/a.log") && !is("keep.log") && is("top") && !is("d/top") && !is("a.pyc"));
        assert!(!is("only") && ignore.matches(Path::new("only"), true));
        let error = Ignore::new(["a", "{b"]).unwrap_err();
        assert!(error.starts_with("`{b` is no line of a .gitignore"), "{error}");
    }
}

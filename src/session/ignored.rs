//! What does not count in folders of the study that a stage or the build reads.

use crate::session::Session;
use crate::session::error::{Error, Result};
use std::path::{Component, Path};
use std::sync::{LazyLock, PoisonError};
use store::ignore::{DEFAULT, Ignore};
use study::normal;

/// What never counts, to ask about single names.
static LEFT: LazyLock<Ignore> = LazyLock::new(|| Ignore::new(DEFAULT).unwrap_or_else(|_| Ignore::nothing()));

impl Session {
    /// What does not count in the folder at `path`, a path of the study: what tools leave there, what `lines` say, and
    /// what the runner itself makes.
    pub fn ignore(&self, path: &Path, lines: &[String]) -> Result<Ignore> {
        let full = self.graph.root.join(path);
        if !full.is_dir() {
            return Ok(Ignore::nothing());
        }
        let mut all: Vec<String> = Vec::new();
        // Where the folder itself has such a name, what it holds is what is meant.
        let meant = path.components().any(|part| match part {
            Component::Normal(name) => LEFT.matches(Path::new(name), true),
            _ => false,
        });
        if !meant {
            all.extend(DEFAULT.map(String::from));
        }
        all.extend_from_slice(lines);
        if let (Ok(root), Ok(full)) = (self.graph.root.canonicalize(), full.canonicalize()) {
            let own = [self.graph.out.as_path(), Path::new(".pipeline")];
            let own = own.into_iter().map(|own| normal(&root.join(own)));
            let below = own.filter_map(|own| own.strip_prefix(&full).ok().map(line));
            all.extend(below.flatten());
        }
        let mut known = self.ignored.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ignore) = known.get(&all) {
            return Ok(ignore.clone());
        }
        let ignore = Ignore::new(&all).map_err(Error::Ignored)?;
        known.insert(all, ignore.clone());
        Ok(ignore)
    }
}

/// The line of a `.gitignore` that means this path alone; none where it cannot be written so.
fn line(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| !text.is_empty() && !text.contains('\n'))?;
    let mut line = String::from("/");
    for c in text.chars() {
        if "\\*?[]{}!# ".contains(c) {
            line.push('\\');
        }
        line.push(c);
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_means_one_path() {
        for name in ["out", "a b ", "#x#", "!x", "a*b", "x[1]", "{a,b}", "back\\slash", "caf\u{e9}"] {
            let line = line(Path::new(name)).unwrap();
            let ignore = Ignore::new([&line]).unwrap();
            assert!(ignore.matches(Path::new(name), true), "{line}");
            assert!(!ignore.matches(&Path::new("below").join(name), true), "{line}");
            assert!(
                !ignore.matches(Path::new("aXb"), true) && !ignore.matches(Path::new("x1"), true),
                "{line}"
            );
        }
        assert_eq!(normal(Path::new("/a/./b/../c")), Path::new("/a/c"));
    }
}

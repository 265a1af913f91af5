//! Where the links of a folder lead: what stays inside keeps its meaning wherever the folder is moved.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// As many links may follow each other; the kernel's own limit.
const MOST: usize = 40;

/// Where a link leads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Lead {
    /// To a place in its folder, whether something is there or not: with this as its target the link means the same
    /// wherever the folder stands.
    Inside(PathBuf),
    /// Elsewhere.
    Out,
}

/// A folder whose links are looked at.
pub(crate) struct Folder {
    /// As it was named, absolute or not.
    named: PathBuf,
    /// Without links.
    real: PathBuf,
}

impl Folder {
    pub fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { named: path.into(), real: path.canonicalize()? })
    }

    /// The folder without links.
    pub fn real(&self) -> &Path {
        &self.real
    }

    /// Where the link at `link`, relative to the folder, leads. No folder above it in the folder is a link.
    pub fn lead(&self, link: &Path, target: &Path) -> Lead {
        let above = link.parent().unwrap_or(Path::new(""));
        if let Some(text) = self.stripped(target) {
            // Through the same links, but counted from where the link lies.
            if self.stays(Path::new(""), &text) {
                return Lead::Inside(relative(above, &text));
            }
        } else if target.is_relative() && self.stays(above, target) {
            return Lead::Inside(target.into());
        }
        // By a way around outside, which another place would not have.
        let full = self.real.join(link).canonicalize();
        match full.ok().and_then(|full| full.strip_prefix(&self.real).map(Path::to_path_buf).ok()) {
            Some(place) => Lead::Inside(relative(above, &place)),
            None => Lead::Out,
        }
    }

    /// An absolute path into the folder, from the folder on.
    fn stripped(&self, target: &Path) -> Option<PathBuf> {
        let rest = target.strip_prefix(&self.real).or_else(|_| target.strip_prefix(&self.named));
        rest.ok().filter(|_| target.is_absolute()).map(Path::to_path_buf)
    }

    /// Whether the way from the folder `from` along `path` stays inside at every step. Beyond what exists only the words
    /// count, and a circle of links goes nowhere.
    fn stays(&self, from: &Path, path: &Path) -> bool {
        let mut at = from.to_path_buf();
        let mut left: Vec<OsString> = Vec::new();
        let push = |left: &mut Vec<OsString>, path: &Path| {
            left.extend(path.components().rev().map(|c| c.as_os_str().to_os_string()));
        };
        push(&mut left, path);
        let mut followed = 0;
        while let Some(step) = left.pop() {
            if step == OsStr::new(".") {
                continue;
            }
            if step == OsStr::new("..") {
                if !at.pop() {
                    return false;
                }
                continue;
            }
            let next = at.join(&step);
            let Ok(target) = fs::read_link(self.real.join(&next)) else {
                at = next;
                continue;
            };
            followed += 1;
            if followed > MOST {
                return true;
            }
            match self.stripped(&target) {
                Some(text) => {
                    at = PathBuf::new();
                    push(&mut left, &text);
                }
                None if target.is_relative() => push(&mut left, &target),
                None => return false,
            }
        }
        true
    }
}

/// A path in a folder as seen from another place in it; `.` for the place itself.
fn relative(from: &Path, to: &Path) -> PathBuf {
    // There is none only where one of the two is absolute.
    let path = pathdiff::diff_paths(to, from).unwrap_or_else(|| to.into());
    if path.as_os_str().is_empty() { ".".into() } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn leads() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let root = base.join("o");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/f"), "").unwrap();
        fs::write(base.join("other"), "").unwrap();
        symlink("a", root.join("latest")).unwrap();
        symlink(".", root.join("here")).unwrap();
        symlink("round", root.join("round")).unwrap();
        symlink(&root, base.join("alias")).unwrap();
        let absolute = |text: &str| base.join(text).display().to_string();
        let inside = |text: &str| Lead::Inside(text.into());
        let cases = [
            // Where the link lies, what it says, where it leads.
            ("l", "a/f".to_string(), inside("a/f")),
            ("l", "latest/f".into(), inside("latest/f")),
            ("l", "nothing/at/all".into(), inside("nothing/at/all")),
            ("l", "round".into(), inside("round")),
            ("l", "../other".into(), Lead::Out),
            ("l", "../nothing".into(), Lead::Out),
            ("a/l", "../a/f".into(), inside("../a/f")),
            ("a/b/l", "../../l".into(), inside("../../l")),
            // Out and in again, which ends with the folder's name or place.
            ("l", "../o/a/f".into(), inside("a/f")),
            ("a/l", "../../o/a/f".into(), inside("f")),
            ("l", "here/../o/a".into(), inside("a")),
            ("l", "../o/nothing".into(), Lead::Out),
            ("l", absolute("o/a/f"), inside("a/f")),
            ("l", absolute("o/latest/f"), inside("latest/f")),
            ("l", absolute("o/nothing"), inside("nothing")),
            ("a/b/l", absolute("o/a/f"), inside("../f")),
            ("a/b/l", absolute("o/l"), inside("../../l")),
            ("a/l", absolute("o/a"), inside(".")),
            ("l", absolute("o"), inside(".")),
            ("l", absolute("alias/a/f"), inside("a/f")),
            ("l", absolute("o/../o/a"), inside("a")),
            ("l", absolute("other"), Lead::Out),
            ("l", absolute("o2"), Lead::Out),
            ("l", "/nowhere".into(), Lead::Out),
        ];
        for (link, target, lead) in cases {
            let path = root.join(link);
            symlink(&target, &path).unwrap();
            let folder = Folder::new(&root).unwrap();
            assert_eq!(folder.lead(Path::new(link), Path::new(&target)), lead, "{link} → {target}");
            if let (Lead::Inside(kept), Ok(before)) = (&lead, path.canonicalize()) {
                fs::remove_file(&path).unwrap();
                symlink(kept, &path).unwrap();
                assert_eq!(path.canonicalize().unwrap(), before, "{link} → {target}");
            }
            fs::remove_file(&path).unwrap();
        }
    }
}

//! Names that become folders: what no folder can be called, what would lead out of where it belongs, and what would stand
//! in another's place.

use crate::de::Marked;
use crate::error::{Error, Result};
use crate::mark::Mark;
use std::path::{Component, Path, PathBuf};

/// The longest name, in bytes: folders can have 255, and names of ours get beginnings and endings.
pub const LONGEST: usize = 200;
/// The store's folder, relative to the root.
const STORE: &str = ".pipeline";

/// A text as the name of a variant: what it may not have becomes `-`.
pub fn plain(text: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    text.chars().map(keep).collect()
}

/// Checks the name of a variant: that of a folder in `out/`.
pub fn variant(name: &str, mark: &Mark) -> Result<()> {
    let wrong = |text: String| Err(Error::mistake(mark, text));
    if name.is_empty() || plain(name) != name {
        return wrong(format!("the variant's name `{name}` may only have letters, digits, `-`, `_` and `.`"));
    }
    if name.chars().all(|c| c == '.') {
        return wrong(format!("`{name}` is no name of a variant: its outputs are a folder of that name"));
    }
    short(name, mark, "the variant's name")
}

/// A variant may not be called like a stage: both are folders in `out/`.
pub fn apart(variant: &str, mark: &Mark, mut stages: impl Iterator<Item = impl AsRef<str>>) -> Result<()> {
    match stages.any(|stage| stage.as_ref() == variant) {
        true => Err(Error::mistake(
            mark,
            format!(
                "the variant `{variant}` is called like a stage, and both are folders in `out/`; call it otherwise"
            ),
        )),
        false => Ok(()),
    }
}

/// Checks that a name is not too long for a folder.
pub fn short(name: &str, mark: &Mark, what: &str) -> Result<()> {
    if name.len() <= LONGEST {
        return Ok(());
    }
    let (begin, long) = (name.chars().take(20).collect::<String>(), name.len());
    Err(Error::mistake(mark, format!("{what} `{begin}…` has {long} bytes; a name may have {LONGEST}")))
}

/// Checks the name of the file or folder that a stage writes.
pub fn file(name: &str, mark: &Mark) -> Result<()> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') || name.contains(char::is_control) {
        return Err(Error::mistake(mark, format!("`{}` is not a plain file name", name.escape_debug())));
    }
    short(name, mark, "the file name")
}

/// The folder of the newest outputs, relative to the root: it lies in the root, and is nothing else's.
pub fn out(given: Option<&Marked<String>>, root: &Path) -> Result<PathBuf> {
    let Some(given) = given else { return Ok("out".into()) };
    let wrong = |what: &str| Err(Error::mistake(&given.mark, format!("out: `{}` {what}", given.as_str())));
    let mut out = PathBuf::new();
    for part in Path::new(given.as_str()).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => out.push(name),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return wrong(
                    "may lead out of the study's root; name a folder in it, which may be a link to another disk",
                );
            }
        }
    }
    if out.as_os_str().is_empty() {
        return wrong("is the study's root itself; name a folder in it");
    }
    if out.starts_with(STORE) || within(&root.join(&out), &root.join(STORE)) {
        return wrong("is the store's; name another folder");
    }
    let mut above = out.ancestors().filter(|path| !path.as_os_str().is_empty());
    if let Some(file) = above.find(|path| root.join(path).exists() && !root.join(path).is_dir()) {
        return wrong(&format!("needs a folder where the file {} is; name another", file.display()));
    }
    for part in &out {
        short(&part.to_string_lossy(), &given.mark, "the folder")?;
    }
    Ok(out)
}

/// Whether a path really lies in a folder, or is it; what is not there lies nowhere.
fn within(path: &Path, folder: &Path) -> bool {
    matches!((path.canonicalize(), folder.canonicalize()), (Ok(path), Ok(folder)) if path.starts_with(&folder))
}

/// A path without `.` and `..`.
pub fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
    }
    normal
}

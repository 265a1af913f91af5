//! Presets of clusters: those that the program brings, and files of the user's own, which come first.

use super::keys::ClusterKeys;
use crate::de;
use crate::error::{Error, Result, hint};
use crate::mark::Mark;
use crate::text;
use crate::tree;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the program brings.
const SHIPPED: [(&str, &str); 7] = [
    ("grid-engine", include_str!("presets/grid-engine.yaml")),
    ("htcondor", include_str!("presets/htcondor.yaml")),
    ("kubernetes", include_str!("presets/kubernetes.yaml")),
    ("lsf", include_str!("presets/lsf.yaml")),
    ("pbs", include_str!("presets/pbs.yaml")),
    ("ray", include_str!("presets/ray.yaml")),
    ("skypilot", include_str!("presets/skypilot.yaml")),
];
/// How the files of a user's own end.
const ENDING: &str = ".yaml";

/// A preset as its file has it.
#[derive(Clone, Debug)]
pub struct Preset {
    /// Its name.
    pub name: String,
    /// The file of a user's own.
    pub file: Option<PathBuf>,
    /// The text of the file.
    pub text: String,
    /// Why it has none.
    pub wrong: Option<String>,
}

impl Preset {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, with its line.
    pub fn keys(&self) -> Result<ClusterKeys> {
        let shown = self.file.as_ref().map(|file| file.display().to_string());
        let shown: Arc<str> = Arc::from(shown.unwrap_or_else(|| format!("preset {}", self.name)));
        let keys: ClusterKeys = de::from_node(&tree::parse(&shown, &self.text)?)?;
        match &keys.preset {
            Some(preset) => {
                Err(Error::mistake(&preset.mark, "a preset stands on no other one; copy that one"))
            }
            None => Ok(keys),
        }
    }
}

/// The folder of a user's own presets, where the environment tells it.
pub fn folder() -> Option<PathBuf> {
    // An empty or relative one is not set, as the convention has it.
    let given = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = given("XDG_CONFIG_HOME").or_else(|| Some(given("HOME")?.join(".config")))?;
    Some(base.join("pipeline/clusters"))
}

/// All presets, a user's own in the place of those of the same name.
pub fn all() -> Vec<Preset> {
    let mut all: BTreeMap<String, Preset> = BTreeMap::new();
    for (name, text) in SHIPPED {
        all.insert(name.into(), Preset { name: name.into(), file: None, text: text.into(), wrong: None });
    }
    let files = folder().and_then(|folder| fs::read_dir(folder).ok());
    for file in files.into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = file.file_name().and_then(|name| name.to_str()?.strip_suffix(ENDING)).map(str::to_string);
        let Some(name) = name else { continue };
        let (text, wrong) = match text::read(&file, &file) {
            Ok(text) => (text, None),
            Err(e) => (String::new(), Some(e.to_string())),
        };
        all.insert(name.clone(), Preset { name, file: Some(file), text, wrong });
    }
    all.into_values().collect()
}

/// The text of a preset that the program brings.
pub fn shipped(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(shipped, _)| *shipped == name).map(|(_, text)| *text)
}

/// The preset of this name; one with a `/` is a file, in `root` unless it is absolute.
///
/// # Errors
/// When there is none, at `mark`.
pub fn find(name: &str, root: &Path, mark: &Mark) -> Result<Preset> {
    let read = |file: PathBuf| -> Result<Option<Preset>> {
        match text::read(&file, &file) {
            Ok(text) => Ok(Some(Preset { name: name.into(), file: Some(file), text, wrong: None })),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    };
    if name.contains('/') {
        let file = root.join(name);
        let none = || Error::mistake(mark, format!("there is no file {}", file.display()));
        return read(file.clone())?.ok_or_else(none);
    }
    if let Some(own) =
        folder().map(|folder| read(folder.join(format!("{name}{ENDING}")))).transpose()?.flatten()
    {
        return Ok(own);
    }
    if let Some(text) = shipped(name) {
        return Ok(Preset { name: name.into(), file: None, text: text.into(), wrong: None });
    }
    let all = all();
    let near = hint(name, all.iter().map(|preset| preset.name.as_str()));
    Err(Error::mistake(mark, format!("there is no preset `{name}` of a cluster{near}")))
}

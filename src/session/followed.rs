//! The files and folders of the study that a command names, which are inputs without being declared.

use crate::session::Session;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use study::graph::{Call, Step};

impl Session {
    /// What a step's command names, by path from the root: every word, what stands after a word's `=`, and the module
    /// after `-m`. Of a script of `shell:`, its words.
    pub fn followed(&self, step: &Step) -> BTreeMap<String, PathBuf> {
        let mut found = BTreeMap::new();
        let Call::Command(_, words) = &step.call else { return found };
        let words: Vec<String> = match &step.script {
            Some(script) => study::shell::words(script),
            None => words[1..].iter().filter_map(|w| w.literal()).map(str::to_string).collect(),
        };
        let mut follow = |word: &str| {
            if let Some((name, path)) = self.in_study(word) {
                found.insert(name, path);
            }
        };
        for (i, word) in words.iter().enumerate() {
            follow(word);
            if let Some(at) = word.find(['*', '?', '[']).filter(|_| step.script.is_some()) {
                // What a pattern may stand for is in the folder before it.
                follow(word[..at].rsplit_once('/').map_or("", |(folder, _)| folder));
            }
            if let Some((_, value)) = word.split_once('=') {
                follow(value);
            }
            let module = match word.strip_prefix("-m") {
                Some("") => words.get(i + 1).map(String::as_str),
                joined => joined,
            };
            if let Some(top) =
                module.and_then(|module| module.split('.').next()).filter(|top| !top.is_empty())
            {
                // A package runs what its other modules say as well.
                follow(top);
                follow(&format!("{top}.py"));
            }
        }
        found
    }

    /// The file or folder of the study that a word names. Not what a run makes, nor a folder that holds that.
    fn in_study(&self, word: &str) -> Option<(String, PathBuf)> {
        let root = &self.graph.root;
        let path = Path::new(word);
        if word.is_empty() || word.len() > 4096 {
            return None;
        }
        let relative: PathBuf = match path.is_absolute() {
            true => match path.strip_prefix(root) {
                Ok(relative) => relative.into(),
                // By another way, as through a link to the study's folder.
                Err(_) => path.canonicalize().ok()?.strip_prefix(root).ok()?.into(),
            },
            false => path.into(),
        };
        let relative: PathBuf = relative.components().filter(|part| *part != Component::CurDir).collect();
        let full = root.join(&relative);
        let meta = std::fs::metadata(&full).ok()?;
        if !meta.is_file() && !meta.is_dir() {
            return None;
        }
        let made = [Path::new(".pipeline"), &self.graph.out].map(|made| root.join(made));
        if made.iter().any(|made| full.starts_with(made)) {
            return None;
        }
        if meta.is_dir() {
            let real = full.canonicalize().ok()?;
            if !real.starts_with(root) || made.iter().any(|made| made.starts_with(&real)) {
                return None;
            }
        }
        Some((relative.to_str()?.to_string(), full))
    }
}

//! The action key: everything that can change an output, and nothing else.

use crate::name_map::NameMap;
use crate::text::counted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use store::Key;
use store::digest::Digest;
use store::manifest::{Item, Manifest};

/// Version of [`Action`].
///
/// 1: without the file names of inputs. Stages that read the same content as `table.csv` and as `table.tsv` had one key.
/// 2: as below.
pub const VERSION: u32 = 2;
/// Separates keys from all other BLAKE3 hashes.
const DOMAIN: &str = "pipeline 2026 action key";

/// One piece of work. Its hash is its name; equal actions are one action.
///
/// Not in it: paths outside the study, tuning values, resources, retries, time limits, passed-on environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// [`VERSION`] when it was made.
    pub version: u32,
    /// Name of the stage.
    pub stage: String,
    /// The command with places by name, in order. For `run:` only the program's name: its flags have names.
    pub template: Vec<String>,
    /// Content of the program.
    pub program: Digest,
    /// Every parameter in use, defaults included.
    pub params: NameMap<String>,
    /// Content of every input.
    pub inputs: NameMap<Digest>,
    /// The file name by which the stage sees an input, where it sees one.
    #[serde(default, skip_serializing_if = "NameMap::is_empty")]
    pub names: NameMap<String>,
    /// Content of every file and folder of the study that a command names in its words, by path from the root.
    pub files: NameMap<Digest>,
    /// What does not count of inputs that are folders of the study, beyond what never does.
    #[serde(default, skip_serializing_if = "NameMap::is_empty")]
    pub ignore: NameMap<Vec<String>>,
    /// Declared environment.
    pub env: NameMap<String>,
    /// The virtual environment that the program belongs to: one Python with other packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub venv: Option<String>,
    /// Output names, and the file names they are written to.
    pub outputs: NameMap<String>,
}

impl Action {
    /// Its name.
    pub fn key(&self) -> Key {
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        // Plain data in a fixed order always has the same JSON; there is nothing in it that could fail.
        hasher.update(&serde_json::to_vec(self).unwrap_or_default());
        Key::new(hasher.finalize())
    }

    /// What is different from an older action, in words, the likeliest cause first.
    pub fn differences(&self, old: &Action, manifest: impl Fn(&Digest) -> Option<Manifest>) -> Vec<String> {
        let mut words = Vec::new();
        if self.version != old.version {
            words.push(format!("the cache key has a new version, {} → {}", old.version, self.version));
        }
        let (new_map, old_map) = (&self.params, &old.params);
        for (name, old, new) in changes(old_map, new_map) {
            words.push(match (old, new) {
                (Some(old), Some(new)) => format!("`{name}` {old} → {new}"),
                (None, Some(new)) => format!("`{name}` is new: {new}"),
                (Some(old), None) => format!("`{name}` is gone (was {old})"),
                (None, None) => continue,
            });
        }
        for (what, new_map, old_map) in
            [("input", &self.inputs, &old.inputs), ("file", &self.files, &old.files)]
        {
            for (name, old, new) in changes(old_map, new_map) {
                words.push(match (old, new) {
                    (Some(old), Some(new)) => {
                        format!("{what} `{name}` changed{}", detail(old, new, &manifest))
                    }
                    (None, _) => format!("{what} `{name}` is new"),
                    (_, None) => format!("{what} `{name}` is gone"),
                });
            }
        }
        for (name, ..) in changes(&old.ignore, &self.ignore) {
            words.push(format!("what is ignored of input `{name}` changed"));
        }
        let before = &old.inputs;
        for (name, old, new) in changes(&old.names, &self.names) {
            // What is new or gone has been told.
            if self.inputs.contains_key(name) && before.contains_key(name) {
                let show = |v: Option<&String>| v.map_or("none".to_string(), |v| format!("`{v}`"));
                words.push(format!("the file name of input `{name}` {} → {}", show(old), show(new)));
            }
        }
        for (name, old, new) in changes(&old.env, &self.env) {
            let show = |v: Option<&String>| v.map_or("unset".to_string(), |v| format!("`{v}`"));
            words.push(format!("environment `{name}` {} → {}", show(old), show(new)));
        }
        if self.venv != old.venv {
            let show = |v: &Option<String>| v.as_ref().map_or("none".to_string(), |v| format!("`{v}`"));
            words.push(format!("the virtual environment {} → {}", show(&old.venv), show(&self.venv)));
        }
        if self.outputs != old.outputs {
            words.push("the outputs are others".into());
        }
        if self.template != old.template {
            words.push(format!(
                "the command changed, `{}` → `{}`",
                old.template.join(" "),
                self.template.join(" ")
            ));
        }
        if self.program != old.program {
            words.push(format!("program `{}` changed", self.template.first().map_or("", String::as_str)));
        }
        if self.stage != old.stage {
            words.push(format!("the stage was called `{}`", old.stage));
        }
        words
    }
}

/// A name with what it stood for before and stands for now.
type Change<'a, T> = (&'a String, Option<&'a T>, Option<&'a T>);

/// Every name that stands for something else in two maps, or in one only.
pub fn changes<'a, T: PartialEq>(old: &'a NameMap<T>, new: &'a NameMap<T>) -> Vec<Change<'a, T>> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let pairs = names.into_iter().map(|name| (name, old.get(name), new.get(name)));
    pairs.filter(|(_, old, new)| old != new).collect()
}

/// `: 3 of 12 files` for two folders whose manifests are known.
fn detail(old: &Digest, new: &Digest, manifest: impl Fn(&Digest) -> Option<Manifest>) -> String {
    let (Some(old), Some(new)) = (manifest(old), manifest(new)) else { return String::new() };
    let files = |m: &'_ Manifest| -> NameMap<_> {
        let files = m.0.iter().filter(|e| !matches!(e.item, Item::Folder));
        files.map(|e| (e.path.to_string_lossy().into_owned(), e.item.clone())).collect()
    };
    let (old, new) = (files(&old), files(&new));
    let changed = changes(&old, &new);
    match changed.as_slice() {
        [] => ": its folders".into(),
        [(name, ..)] => format!(": {name}"),
        many => {
            let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            format!(": {} of {}", many.len(), counted(all.len(), "file"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::digest::Kind;

    fn action() -> Action {
        let digest = |b| Digest { kind: Kind::File, hash: [b; 32] };
        let pair = |k: &str, v: &str| NameMap::from([(k.to_string(), v.to_string())]);
        Action {
            version: VERSION,
            stage: "train".into(),
            template: vec!["cp".into(), "a".into(), "b".into()],
            program: digest(1),
            params: pair("iterations", "2000"),
            inputs: NameMap::from([("latents".into(), digest(2))]),
            names: pair("latents", "latents.bin"),
            files: NameMap::new(),
            ignore: NameMap::new(),
            env: pair("X", "1"),
            venv: None,
            outputs: pair("model", "model"),
        }
    }

    #[test]
    fn the_key_is_pinned() {
        // When this fails, old caches are lost to everybody: raise VERSION and say why in its doc.
        assert_eq!(
            action().key().to_string(),
            "d854dd082c57755fb42c669f5095178e2038c88dbd9b7cb13b2a4bea7146677a"
        );
    }

    #[test]
    fn every_field_changes_the_key() {
        let other = Digest { kind: Kind::Program, hash: [1; 32] };
        let edits: [&dyn Fn(&mut Action); 15] = [
            &|a| a.version += 1,
            &|a| a.stage = "t".into(),
            &|a| a.template.swap(1, 2),
            &|a| a.template = vec!["cp".into(), "a b".into()],
            &|a| a.program = other,
            &|a| a.params.clear(),
            &|a| a.params = NameMap::from([("iterations".into(), "4000".into())]),
            &|a| a.inputs = NameMap::from([("latents".into(), other)]),
            &|a| a.names = NameMap::from([("latents".into(), "latents.txt".into())]),
            &|a| a.names.clear(),
            &|a| a.files = NameMap::from([("x".into(), other)]),
            &|a| a.ignore = NameMap::from([("latents".into(), vec!["*.log".into()])]),
            &|a| a.env.clear(),
            &|a| a.venv = Some("./venv".into()),
            &|a| a.outputs = NameMap::from([("model".into(), "m".into())]),
        ];
        let mut keys = vec![action().key()];
        for edit in edits {
            let mut changed = action();
            edit(&mut changed);
            assert_eq!(changed.differences(&action(), |_| None).len(), 1);
            keys.push(changed.key());
        }
        let distinct: BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn differences_read_like_sentences() {
        let mut new = action();
        new.params.insert("iterations".into(), "4000".into());
        new.inputs.insert("latents".into(), Digest { kind: Kind::File, hash: [9; 32] });
        assert_eq!(
            new.differences(&action(), |_| None),
            ["`iterations` 2000 → 4000", "input `latents` changed"]
        );
        assert!(new.differences(&new.clone(), |_| None).is_empty());
    }
}

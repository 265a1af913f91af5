//! What a stage reads, resolved once: the content, where it lies, and the file name by which the stage sees it.

use crate::name_map::NameMap;
use crate::session::error::{Error, Result};
use crate::session::{Input, Instance, Place, Session, StepOutputs, lineage};
use std::ffi::OsString;
use std::path::Path;
use store::digest::Kind;
use store::ignore::Ignore;
use store::walk::{self, Hashed, Links};
use store::{Produced, labels, name};
use study::Mark;
use study::graph::{Part, Source, Step};

/// The file name of [`Source::Lineage`].
const LINEAGE: &str = "lineage.json";

impl Session {
    /// The inputs of a step that are the same for all its actions; `None` while one of them is not known. `known` holds
    /// the outputs of the steps before.
    pub fn inputs(&self, step: &Step, known: &[Option<StepOutputs>]) -> Result<Option<Vec<Input>>> {
        let shared = (0..step.inputs.len()).filter(|index| step.each != Some(*index));
        let mut inputs: Option<Vec<Input>> =
            shared.map(|index| self.input(step, index, known)).collect::<Result<_>>()?;
        // Held for as long as the run is.
        inputs.iter_mut().for_each(Vec::shrink_to_fit);
        Ok(inputs)
    }

    /// The entries of the input that a step runs over, each with what it is called.
    pub fn entries(
        &self,
        step: &Step,
        index: usize,
        known: &[Option<StepOutputs>],
    ) -> Result<Option<Vec<(Instance, Input)>>> {
        let (name, mark) = (&step.inputs[index].name, &step.inputs[index].mark);
        let no_folder = || {
            let text =
                format!("stage {} runs over the entries of `{name}`, which is not a folder", step.stage);
            Error::study(mark, text)
        };
        if let Source::Path(path) = &step.inputs[index].source {
            let ignore = self.ignore(path, &step.inputs[index].ignore)?;
            return self.entries_of_path(name, path, &ignore, mark, no_folder).map(Some);
        }
        let Some(folder) = self.input(step, index, known)? else { return Ok(None) };
        if folder.digest.kind != Kind::Tree {
            return Err(no_folder());
        }
        // The store knows the folder by another name.
        let named = |e: store::Error| match &step.inputs[index].source {
            Source::Output(from, output) => {
                e.of_folder(&self.store.place(&folder.digest), &self.called(*from, *output, step).path)
            }
            _ => e,
        };
        let entries = self.store.entries(&folder.digest).map_err(named)?;
        let entries = entries.into_iter().map(|entry| {
            let file = seen(&name::text(&entry.file));
            let input = Input { name: name.clone(), digest: entry.digest, place: Place::Store, file };
            (Instance::new(entry.name), input)
        });
        Ok(Some(entries.collect()))
    }

    fn entries_of_path(
        &self,
        name: &str,
        path: &Path,
        ignore: &Ignore,
        mark: &Mark,
        no_folder: impl Fn() -> Error,
    ) -> Result<Vec<(Instance, Input)>> {
        let folder = self.existing(path, mark)?;
        let mut files: Vec<_> =
            std::fs::read_dir(&folder).map_err(|_| no_folder())?.flatten().map(|e| e.file_name()).collect();
        files.retain(|file| !ignore.matches(file.as_ref(), folder.join(file).is_dir()));
        files.sort();
        let names: Vec<_> = files.iter().map(|f| (f.as_os_str(), folder.join(f).is_file())).collect();
        let inputs = labels(&names).into_iter().zip(&files).map(|(label, file)| {
            let (path, ignore) = (path.join(file), ignore.below(file.as_ref()));
            let digest = self.hash_with(&path, &ignore, mark)?.digest;
            let file = Some(name::text(file));
            let input = Input { name: name.into(), digest, place: Place::Study(path, ignore), file };
            Ok((Instance::new(label), input))
        });
        inputs.collect()
    }

    /// The folder of an output of every variant; `None` while one of them is not known. An entry is called as its variant,
    /// with the ending of the output's file.
    fn across(&self, parts: &[Part], known: &[Option<StepOutputs>]) -> Result<Option<Produced>> {
        let mut entries = Vec::with_capacity(parts.len());
        let mut temp = false;
        for part in parts {
            let output = &self.graph.steps[part.step].outputs[part.output];
            let Some(produced) = known[part.step].as_ref().and_then(|k| k.outputs.get(&output.name)) else {
                return Ok(None);
            };
            temp |= output.temp;
            entries.push((self.part_file(part), produced.clone()));
        }
        Ok(Some(self.gather_parts(&entries, temp)?))
    }

    /// What the part of a variant is called in such a folder.
    pub fn part_file(&self, part: &Part) -> OsString {
        let output = &self.graph.steps[part.step].outputs[part.output];
        let ending = Path::new(&output.file).extension().map(|e| format!(".{}", e.to_string_lossy()));
        let file = OsString::from(format!("{}{}", part.variant, ending.unwrap_or_default()));
        name::fit(&file, name::LONGEST)
    }

    fn input(&self, step: &Step, index: usize, known: &[Option<StepOutputs>]) -> Result<Option<Input>> {
        let input = &step.inputs[index];
        let (digest, place, file) = match &input.source {
            Source::Path(path) => {
                let file = path.file_name().map(name::text);
                let ignore = self.ignore(path, &input.ignore)?;
                let digest = self.hash_with(path, &ignore, &input.mark)?.digest;
                (digest, Place::Study(path.clone(), ignore), file)
            }
            Source::Lineage => match lineage::of(self, step, known) {
                Some(json) => (self.store.put(&json)?, Place::Store, seen(LINEAGE)),
                None => return Ok(None),
            },
            Source::Output(from, output) => {
                let output = &self.graph.steps[*from].outputs[*output];
                match known[*from].as_ref().and_then(|k| k.outputs.get(&output.name)) {
                    Some(produced) => (produced.digest, Place::Store, seen(&output.file)),
                    None => return Ok(None),
                }
            }
            Source::Across(parts) => match self.across(parts, known)? {
                Some(produced) => (produced.digest, Place::Store, None),
                None => return Ok(None),
            },
        };
        Ok(Some(Input { name: input.name.clone(), digest, place, file }))
    }

    /// What does not count of the inputs of a step that are folders of the study, as the study says it.
    pub fn ignored_of(&self, step: &Step, known: &[Input]) -> NameMap<Vec<String>> {
        let folder = |index: usize, name: &str| {
            step.each == Some(index) || known.iter().any(|i| i.name == name && i.digest.kind == Kind::Tree)
        };
        let inputs = step.inputs.iter().enumerate();
        let inputs = inputs.filter(|(index, input)| !input.ignore.is_empty() && folder(*index, &input.name));
        inputs.map(|(_, input)| (input.name.clone(), input.ignore.clone())).collect()
    }

    /// Hashes a path of the study, without what never counts and what the study ignores everywhere.
    pub fn hash_path(&self, path: &Path, mark: &Mark) -> Result<Hashed> {
        self.hash_with(path, &self.ignore(path, &self.graph.ignore)?, mark)
    }

    pub(super) fn hash_with(&self, path: &Path, ignore: &Ignore, mark: &Mark) -> Result<Hashed> {
        let full = self.existing(path, mark)?;
        let hashed = walk::hash(&full, &self.store.stats, Links::Follow(ignore))?;
        if let Some(manifest) = &hashed.manifest {
            self.store.keep_manifest(&hashed.digest, manifest)?;
        }
        Ok(hashed)
    }

    fn existing(&self, path: &Path, mark: &Mark) -> Result<std::path::PathBuf> {
        let full = self.graph.root.join(path);
        match full.exists() {
            true => Ok(full),
            false => Err(Error::study(mark, format!("no such file or folder: {}", path.display()))),
        }
    }
}

/// The name by which a stage sees what lies in the store: its own where that may mean something (`scores.json`).
fn seen(file: &str) -> Option<String> {
    file.contains('.').then(|| file.to_string())
}

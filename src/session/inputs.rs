//! What a stage reads, resolved once: the content, where it lies, and the file name by which the stage sees it.

use crate::session::error::{Error, Result};
use crate::session::{Input, Known, Place, Session, lineage};
use std::path::Path;
use store::digest::Kind;
use store::labels;
use store::walk::{self, Hashed, Links};
use study::Mark;
use study::graph::{Source, Step};

/// The file name of [`Source::Lineage`].
const LINEAGE: &str = "lineage.json";

impl Session {
    /// The inputs of a step that are the same for all its actions; `None` while one of them is not known. `known` holds
    /// the outputs of the steps before.
    pub fn inputs(&self, step: &Step, known: &[Option<Known>]) -> Result<Option<Vec<Input>>> {
        let shared = (0..step.inputs.len()).filter(|index| step.each != Some(*index));
        shared.map(|index| self.input(step, index, known)).collect()
    }

    /// The entries of the input that a step runs over, each with what it is called.
    pub fn entries(
        &self,
        step: &Step,
        index: usize,
        known: &[Option<Known>],
    ) -> Result<Option<Vec<(String, Input)>>> {
        let (name, mark) = (&step.inputs[index].name, &step.inputs[index].mark);
        let no_folder = || {
            let text =
                format!("stage {} runs over the entries of `{name}`, which is not a folder", step.stage);
            Error::study(mark, text)
        };
        if let Source::Path(path) = &step.inputs[index].source {
            return self.entries_of_path(name, path, mark, no_folder).map(Some);
        }
        let Some(folder) = self.input(step, index, known)? else { return Ok(None) };
        if folder.digest.kind != Kind::Tree {
            return Err(no_folder());
        }
        let entries = self.store.entries(&folder.digest)?;
        let entries = entries.into_iter().map(|(label, file, digest)| {
            (label, Input { name: name.clone(), digest, place: Place::Store, file: seen(&file) })
        });
        Ok(Some(entries.collect()))
    }

    fn entries_of_path(
        &self,
        name: &str,
        path: &Path,
        mark: &Mark,
        no_folder: impl Fn() -> Error,
    ) -> Result<Vec<(String, Input)>> {
        let folder = self.existing(path, mark)?;
        let mut files: Vec<_> =
            std::fs::read_dir(&folder).map_err(|_| no_folder())?.flatten().map(|e| e.file_name()).collect();
        files.sort();
        let names: Vec<_> =
            files.iter().map(|f| (f.to_string_lossy().into_owned(), folder.join(f).is_file())).collect();
        let names: Vec<_> = names.iter().map(|(file, is_file)| (file.as_str(), *is_file)).collect();
        let inputs = labels(&names).into_iter().zip(&files).map(|(label, file)| {
            let path = path.join(file);
            let digest = self.hash_path(&path, mark)?.digest;
            let file = Some(file.to_string_lossy().into_owned());
            Ok((label, Input { name: name.into(), digest, place: Place::Study(path), file }))
        });
        inputs.collect()
    }

    fn input(&self, step: &Step, index: usize, known: &[Option<Known>]) -> Result<Option<Input>> {
        let input = &step.inputs[index];
        let (digest, place, file) = match &input.source {
            Source::Path(path) => {
                let file = path.file_name().map(|file| file.to_string_lossy().into_owned());
                (self.hash_path(path, &input.mark)?.digest, Place::Study(path.clone()), file)
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
        };
        Ok(Some(Input { name: input.name.clone(), digest, place, file }))
    }

    /// Hashes a path of the study.
    pub fn hash_path(&self, path: &Path, mark: &Mark) -> Result<Hashed> {
        let full = self.existing(path, mark)?;
        let hashed = walk::hash(&full, &self.store.stats, Links::Follow)?;
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

//! The programs of the steps, and the parameters that these have by them.

use crate::session::error::{Error, Result};
use crate::session::stale::{makes, stale};
use crate::session::{Program, Session};
use stage::Role;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use store::digest::Digest;
use store::walk::{self, Links};
use store::{IoContext, Store, record};
use study::graph::{Call, Step};
use study::{Mark, describe, hint};

impl Session {
    /// Finds the programs that are as the build would leave them; what it has yet to make stays unknown.
    pub fn find_built_programs(&mut self) -> Result<()> {
        let stale = stale(self)?.is_some();
        self.find_programs(stale)
    }

    /// Finds the programs of all steps and checks the study against their descriptions.
    ///
    /// While the build is `stale`, what it makes stays unknown: old programs may describe what is no longer so.
    pub fn find_programs(&mut self, stale: bool) -> Result<()> {
        let mut known: HashMap<PathBuf, Digest> = HashMap::new();
        for i in 0..self.graph.steps.len() {
            let step = &self.graph.steps[i];
            if stale && makes(self, step) {
                continue;
            }
            let path = self.program_path(step)?;
            let digest = match known.get(&path) {
                Some(digest) => *digest,
                None => walk::hash(&path, &self.store.stats, Links::Keep)?.digest,
            };
            known.insert(path.clone(), digest);
            let step = &mut self.graph.steps[i];
            let mut units = BTreeMap::new();
            let params = match &step.call {
                Call::Command(..) => {
                    undeclared(step)?;
                    step.params.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect()
                }
                Call::Run(name) => {
                    let spec = described(&self.store, &path, &digest, &name.mark)?;
                    let params = describe::check(step, &spec)?;
                    let counting = spec.arguments.iter().filter(|arg| arg.role == Role::Param);
                    units.extend(counting.filter_map(|arg| Some((arg.name.clone(), arg.unit.clone()?))));
                    in_force(&self.store, &path, &digest, step, &spec)?.unwrap_or(params)
                }
            };
            self.programs[i] = Some(Program { path, digest, params, units });
        }
        Ok(())
    }

    /// The program of a step as it is now: it may have changed since it was found.
    pub fn program_now(&self, index: usize) -> Result<Option<Program>> {
        let Some(program) = &self.programs[index] else { return Ok(None) };
        let digest = walk::hash(&program.path, &self.store.stats, Links::Keep)?.digest;
        let mut now = Program { digest, ..program.clone() };
        if let Call::Run(name) = &self.graph.steps[index].call
            && digest != program.digest
        {
            let spec = described(&self.store, &now.path, &digest, &name.mark)?;
            let mut step = self.graph.steps[index].clone();
            now.params = describe::check(&mut step, &spec)?;
            if let Some(params) = in_force(&self.store, &now.path, &digest, &step, &spec)? {
                now.params = params;
            }
        }
        Ok(Some(now))
    }

    /// Where the program of a step is: a path of the study, one that `build` makes, or on `PATH`.
    fn program_path(&self, step: &Step) -> Result<PathBuf> {
        let (name, mark, run) = match &step.call {
            Call::Run(name) => (name.as_str(), &name.mark, true),
            Call::Command(mark, words) => (words[0].literal().unwrap_or_default(), mark, false),
        };
        let found = if name.contains('/') {
            Some(self.graph.root.join(name)).filter(|p| p.is_file())
        } else {
            let built = self
                .graph
                .build
                .as_ref()
                .filter(|_| run)
                .map(|b| self.graph.root.join(&b.programs).join(name));
            built
                .filter(|p| p.is_file())
                .or_else(|| if run && self.graph.build.is_some() { None } else { on_path(name) })
        };
        match found {
            Some(path) => Ok(std::path::absolute(&path).at("finding", &path)?),
            None => Err(self.no_program(name, mark, run)),
        }
    }

    fn no_program(&self, name: &str, mark: &Mark, run: bool) -> Error {
        let text = match &self.graph.build {
            _ if name.contains('/') => format!("no such program: {name}"),
            Some(build) if run => {
                let folder = self.graph.root.join(&build.programs);
                let there = std::fs::read_dir(&folder).map(|d| {
                    let files = d.flatten().filter(|e| e.path().is_file());
                    files.map(|e| e.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
                });
                let there: Vec<String> = there.unwrap_or_default();
                let there = there.iter().filter(|n| !n.contains('.')).map(String::as_str);
                format!(
                    "the build makes no program `{name}` in {}{}",
                    build.programs.display(),
                    hint(name, there)
                )
            }
            _ => format!("no program `{name}` on PATH; give a path with a `/`, or a `build:` that makes it"),
        };
        Error::study(mark, text)
    }
}

/// A value given with `--set` to a command that has no place for it would be ignored; refuse it.
fn undeclared(step: &Step) -> Result<()> {
    let Call::Command(_, words) = &step.call else { return Ok(()) };
    for (name, value) in step.params.iter().filter(|(_, v)| v.mark.line == 0) {
        let used = words
            .iter()
            .flat_map(|w| &w.0)
            .any(|part| matches!(part, study::template::Part::Slot(_, slot) if slot == name));
        if !used {
            return Err(Error::study(&value.mark, format!("stage {} has no parameter `{name}`", step.stage)));
        }
    }
    Ok(())
}

/// What a program says of itself, which is asked once for each content.
fn described(store: &Store, path: &Path, digest: &Digest, mark: &Mark) -> Result<stage::Spec> {
    // A program of many names describes itself under each.
    let called = path.file_name().unwrap_or_default().to_string_lossy();
    let kept = store.description(digest, &called);
    if let Some(spec) = record::read(&kept) {
        return Ok(spec);
    }
    let spec = describe::ask(path, mark)?;
    record::write(&kept, &spec, false)?;
    Ok(spec)
}

/// The parameters in force of a program that knows them, which is asked once for each content and what it is given.
fn in_force(
    store: &Store,
    path: &Path,
    digest: &Digest,
    step: &Step,
    spec: &stage::Spec,
) -> Result<Option<BTreeMap<String, String>>> {
    if !spec.check {
        return Ok(None);
    }
    let question = blake3::hash(describe::question(step).join("\0").as_bytes()).to_hex();
    let kept = store.description(digest, &format!("{}-{}", spec.name, &question[..32]));
    if let Some(params) = record::read(&kept) {
        return Ok(Some(params));
    }
    let params = describe::in_force(path, step, spec)?;
    record::write(&kept, &params, false)?;
    Ok(Some(params))
}

/// The first program of this name on `PATH`, as a shell finds it.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(program)
}

/// The virtual environment of a program, which decides what its Python imports: the folder that has `pyvenv.cfg`
/// above the program's, relative to the study's root, or only by its name where it lies elsewhere, since the same
/// environment has another path on every machine.
pub fn venv(program: &Path, root: &Path) -> Option<String> {
    let folder = program.parent()?.parent()?;
    if !folder.join("pyvenv.cfg").is_file() {
        return None;
    }
    let shown = match folder.strip_prefix(root) {
        Ok(inside) => Path::new(".").join(inside),
        Err(_) => folder.file_name()?.into(),
    };
    Some(shown.display().to_string())
}

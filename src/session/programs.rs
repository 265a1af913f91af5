//! The programs of the steps, and the parameters that these have by them.

use crate::session::error::{Error, Result};
use crate::session::homes::{self, Home, is_program};
use crate::session::stale::{makes, stale};
use crate::session::{Program, Session};
use stage::Role;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::digest::Digest;
use store::walk::{self, Links};
use store::{IoContext, Store, record};
use study::describe::{self, Judgement};
use study::graph::{Call, Step};
use study::{Mark, hint};

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
        self.warnings.clear();
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
            let step = &self.graph.steps[i];
            let mut units = BTreeMap::new();
            let params = match &step.call {
                Call::Command(..) => {
                    undeclared(step)?;
                    step.params.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect()
                }
                Call::Run(name) => {
                    let (mark, mut step) = (name.mark.clone(), step.clone());
                    let said = self.said(&path, &digest, &mark, &mut step)?;
                    Arc::make_mut(&mut self.graph).steps[i] = step;
                    let Some((Judgement { params, warnings }, counted)) = said else { continue };
                    units = counted;
                    self.warnings.extend(warnings.into_iter().map(|warning| (i, warning)));
                    params
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
            let mut step = self.graph.steps[index].clone();
            let Some(said) = self.said(&now.path, &digest, &name.mark, &mut step)? else { return Ok(None) };
            (now.params, now.units) = (said.0.params, said.1);
        }
        Ok(Some(now))
    }

    /// Where the program of a step is: a path of the study, one that `build` makes, a stage program, or on `PATH`.
    fn program_path(&self, step: &Step) -> Result<PathBuf> {
        let (name, mark, run) = match &step.call {
            Call::Run(name) => (name.as_str(), &name.mark, true),
            Call::Command(mark, words) => (words[0].literal().unwrap_or_default(), mark, false),
        };
        let found = if name.contains('/') {
            Some(self.graph.root.join(name)).filter(|p| p.is_file())
        } else if run {
            let path = || if self.graph.build.is_some() { None } else { on_path(name) };
            homes::find(name, &self.homes()).or_else(path)
        } else {
            on_path(name)
        };
        match found {
            Some(path) => Ok(std::path::absolute(&path).at("finding", &path)?),
            None => Err(self.no_program(name, mark, run)),
        }
    }

    /// The parameters in force of a step, after it was held to what its program says of itself, and what those count. `None` where
    /// that was not asked before and is not to be asked now.
    fn said(
        &self,
        path: &Path,
        digest: &Digest,
        mark: &Mark,
        step: &mut Step,
    ) -> Result<Option<(Judgement, BTreeMap<String, String>)>> {
        let Some(spec) = described(&self.store, path, digest, mark, !self.only_look)? else {
            return Ok(None);
        };
        let params = describe::check(step, &spec)?;
        let judgement = match spec.check {
            true => self.in_force(path, digest, step, &spec)?,
            false => Some(Judgement { params, warnings: Vec::new() }),
        };
        let counting = spec.arguments.iter().filter(|arg| arg.role == Role::Param);
        let units = counting.filter_map(|arg| Some((arg.name.clone(), arg.unit.clone()?))).collect();
        Ok(judgement.map(|judgement| (judgement, units)))
    }

    /// What a program says that knows the parameters in force, which is asked once for each content and what it is given. Where it
    /// warns of something it is asked again: that may have been put right since.
    fn in_force(
        &self,
        path: &Path,
        digest: &Digest,
        step: &Step,
        spec: &stage::Spec,
    ) -> Result<Option<Judgement>> {
        let root = &self.graph.root;
        let mut question = describe::question(step, spec, root);
        for (input, path) in describe::judged(step, spec, root) {
            let ignore = self.ignore(path, &input.ignore)?;
            question.push(self.hash_with(path, &ignore, &input.mark)?.digest.to_string());
        }
        match study::Processes::of(step.processes) {
            1 => {}
            several => question.push(format!("{several} processes")),
        }
        let question = blake3::hash(question.join("\0").as_bytes()).to_hex();
        let kept = self.store.description(digest, &format!("{}-{}", spec.name, &question[..32]));
        if let Some(params) = record::read(&kept) {
            return Ok(Some(Judgement { params, warnings: Vec::new() }));
        }
        // For those who may not ask.
        let warned = self.store.description(digest, &format!("{}-{}-warned", spec.name, &question[..32]));
        if self.only_look {
            return Ok(record::read(&warned).map(|params| Judgement { params, warnings: Vec::new() }));
        }
        let judgement = describe::in_force(path, step, spec, root)?;
        let place = if judgement.warnings.is_empty() { &kept } else { &warned };
        if !self.store.is_closed() {
            record::write(place, &judgement.params, false)?;
        }
        Ok(Some(judgement))
    }

    /// The folders of stage programs, that of the study's build first.
    pub fn homes(&self) -> Vec<Home> {
        let build = self.graph.build.as_ref();
        homes::homes(build.map(|build| self.graph.root.join(&build.programs)))
    }

    fn no_program(&self, name: &str, mark: &Mark, run: bool) -> Error {
        let stages = if run { " or among the stage programs" } else { "" };
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
            _ => {
                let alone = if run { homes::alone(&self.homes()) } else { None };
                let alone = alone.map(|alone| format!("; {alone}")).unwrap_or_default();
                format!(
                    "no program `{name}` on PATH{stages}; give a path with a `/`, or a `build:` that makes it{alone}"
                )
            }
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
fn described(
    store: &Store,
    path: &Path,
    digest: &Digest,
    mark: &Mark,
    ask: bool,
) -> Result<Option<stage::Spec>> {
    // A program of many names describes itself under each.
    let called = path.file_name().unwrap_or_default().to_string_lossy();
    let kept = store.description(digest, &called);
    if let Some(spec) = record::read(&kept) {
        return Ok(Some(spec));
    }
    if !ask {
        return Ok(None);
    }
    let spec = describe::ask(path, mark)?;
    if !store.is_closed() {
        record::write(&kept, &spec, false)?;
    }
    Ok(Some(spec))
}

/// The first program of this name on `PATH`, as a shell finds it.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| is_program(path))
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

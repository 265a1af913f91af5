//! A study with its store and programs at hand: what every command works on.

use crate::error::{Error, IoContext, Result, hint};
use crate::key::{Action, VERSION};
use crate::remote::Remote;
use crate::store::digest::{Digest, Kind};
use crate::store::results::{Last, Outcome, Produced};
use crate::store::walk::{self, Hashed, Links};
use crate::store::{Store, record};
use crate::study::graph::{Call, Graph, Source, Step};
use crate::study::tree::Mark;
use crate::study::{self, Choice, describe, sharded};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What the command line says beside the study.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which study.
    pub choice: Choice,
    /// `stage.output=PATH`.
    pub with: Vec<String>,
    /// Stages to run although they are cached.
    pub force: Vec<String>,
    /// Stages asked for; none means all.
    pub stages: Vec<String>,
    /// A shared cache in the place of the study's.
    pub cache: Option<String>,
    /// No shared cache at all.
    pub offline: bool,
}

/// A study with its store.
pub struct Session {
    pub graph: Graph,
    pub store: Store,
    /// Steps that the command is about: those asked for and all that they need.
    pub wanted: Vec<bool>,
    pub forced: HashSet<usize>,
    /// Contents put in the place of outputs, by step and output name.
    pub replaced: HashMap<usize, BTreeMap<String, Produced>>,
    /// Program and parameters of each step, once [`Session::programs`] has looked.
    pub programs: Vec<Option<Program>>,
    /// The cache that is shared with others.
    pub remote: Option<Remote>,
}

/// The program of a step.
#[derive(Clone, Debug)]
pub struct Program {
    /// As it was written or found on `PATH`, absolute. Links are kept: a virtual environment's Python and a program
    /// of many names look at the path they are called by.
    pub path: PathBuf,
    pub digest: Digest,
    /// Every parameter in use, defaults included.
    pub params: BTreeMap<String, String>,
}

impl Session {
    /// Reads the study, opens its store, and applies the options.
    pub fn open(options: &Options) -> Result<Self> {
        let graph = study::load(&options.choice)?;
        let store = Store::open(&graph.root, &graph.name)?;
        let mut replaced: HashMap<usize, BTreeMap<String, Produced>> = HashMap::new();
        for text in &options.with {
            let (target, path) = text
                .split_once('=')
                .ok_or_else(|| Error::Usage(format!("--with {text}: expected stage.output=PATH")))?;
            let (steps, name) = graph.output(target)?;
            if !Path::new(path).exists() {
                return Err(Error::Usage(format!("--with {text}: no such file or folder: {path}")));
            }
            let path = Path::new(path).canonicalize().at("finding", Path::new(path))?;
            let produced = store.adopt(&path)?;
            for step in steps {
                replaced.entry(step).or_default().insert(name.clone(), produced.clone());
            }
        }
        let mut forced = HashSet::new();
        for name in &options.force {
            forced.extend(graph.find(name)?);
        }
        let wanted = wanted(&graph, &options.stages, &replaced)?;
        let programs = vec![None; graph.steps.len()];
        let remote = match (&options.cache, &graph.cache) {
            _ if options.offline => None,
            (Some(given), _) => {
                let remote = Remote::new(given, Path::new(""));
                Some(remote.map_err(|e| Error::Usage(format!("--cache {e}")))?)
            }
            (None, Some(cache)) => {
                Some(Remote::new(cache, &graph.root).map_err(|e| Error::study(&cache.mark, e))?)
            }
            (None, None) => None,
        };
        Ok(Self { graph, store, wanted, forced, replaced, programs, remote })
    }

    /// Sets which steps are wanted: these, with all that they need.
    pub fn want(&mut self, stages: &[String]) -> Result<()> {
        self.wanted = wanted(&self.graph, stages, &self.replaced)?;
        Ok(())
    }

    /// Finds the programs of all steps and checks the study against their descriptions.
    ///
    /// While the build is `stale`, what it makes stays unknown: old programs may describe what is no longer so.
    pub fn find_programs(&mut self, stale: bool) -> Result<()> {
        let mut known: HashMap<PathBuf, Digest> = HashMap::new();
        for i in 0..self.graph.steps.len() {
            let step = &self.graph.steps[i];
            if stale && crate::run::build::makes(self, step) {
                continue;
            }
            let path = self.program_path(step)?;
            let digest = match known.get(&path) {
                Some(digest) => *digest,
                None => walk::hash(&path, &self.store.stats, Links::Keep)?.digest,
            };
            known.insert(path.clone(), digest);
            let step = &mut self.graph.steps[i];
            let params = match &step.call {
                Call::Command(..) => {
                    undeclared(step)?;
                    step.params.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect()
                }
                Call::Run(name) => {
                    describe::check(step, &described(&self.store, &path, &digest, &name.mark)?)?
                }
            };
            self.programs[i] = Some(Program { path, digest, params });
        }
        Ok(())
    }

    /// The program of a step as it is now: it may have changed since it was found.
    fn program_now(&self, index: usize) -> Result<Option<Program>> {
        let Some(program) = &self.programs[index] else { return Ok(None) };
        let digest = walk::hash(&program.path, &self.store.stats, Links::Keep)?.digest;
        let mut now = Program { digest, ..program.clone() };
        if let Call::Run(name) = &self.graph.steps[index].call
            && digest != program.digest
        {
            let spec = described(&self.store, &now.path, &digest, &name.mark)?;
            now.params = describe::check(&mut self.graph.steps[index].clone(), &spec)?;
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
            Some(path) => std::path::absolute(&path).at("finding", &path),
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

    /// The content of every input of a step; `None` while one of them is not known. `known` holds the outputs of
    /// the steps before.
    pub fn inputs(&self, step: &Step, known: &[Option<Known>]) -> Result<Option<BTreeMap<String, Digest>>> {
        let mut inputs = BTreeMap::new();
        for input in &step.inputs {
            let digest = match &input.source {
                Source::Path(path) => self.hash_path(path, &input.mark)?.digest,
                Source::Lineage => match crate::lineage::of(self, step, known) {
                    Some(json) => self.store.put(&json)?,
                    None => return Ok(None),
                },
                Source::Output(from, output) => {
                    let name = &self.graph.steps[*from].outputs[*output].name;
                    match known[*from].as_ref().and_then(|k| k.outputs.get(name)) {
                        Some(produced) => produced.digest,
                        None => return Ok(None),
                    }
                }
            };
            inputs.insert(input.name.clone(), digest);
        }
        Ok(Some(inputs))
    }

    /// Hashes a path of the study.
    pub fn hash_path(&self, path: &Path, mark: &Mark) -> Result<Hashed> {
        let full = self.graph.root.join(path);
        if !full.exists() {
            return Err(Error::study(mark, format!("no such file or folder: {}", path.display())));
        }
        let hashed = walk::hash(&full, &self.store.stats, Links::Follow)?;
        if let Some(manifest) = &hashed.manifest {
            self.store.keep_manifest(&hashed.digest, manifest)?;
        }
        Ok(hashed)
    }

    /// The actions of a step: one, or one for each entry of the folder it is mapped over. `None` while an input or
    /// the program is not known.
    pub fn units(&self, index: usize, known: &[Option<Known>]) -> Result<Option<Vec<Unit>>> {
        let Some(program) = self.program_now(index)? else { return Ok(None) };
        let step = &self.graph.steps[index];
        let Some(inputs) = self.inputs(step, known)? else { return Ok(None) };
        let mut files = BTreeMap::new();
        let template = match &step.call {
            Call::Run(name) => vec![name.value.clone()],
            Call::Command(mark, words) => {
                for word in words[1..].iter().filter_map(|w| w.literal()) {
                    // A script that a command names is part of what it does.
                    let path = Path::new(word);
                    if path.is_relative() && self.graph.root.join(path).is_file() {
                        files.insert(word.to_string(), self.hash_path(path, mark)?.digest);
                    }
                }
                words.iter().map(ToString::to_string).collect()
            }
        };
        let action = Action {
            version: VERSION,
            stage: step.stage.clone(),
            template,
            program: program.digest,
            params: program.params.clone(),
            inputs,
            files,
            env: step.env.clone(),
            venv: venv(&program.path, &self.graph.root),
            outputs: step.outputs.iter().map(|o| (o.name.clone(), o.file.clone())).collect(),
        };
        if let Some(shards) = step.shards {
            let width = (shards - 1).to_string().len();
            let unit = |shard: u32| {
                let mut action = action.clone();
                action.params.extend(
                    sharded::PARAMS.map(String::from).into_iter().zip([shard, shards].map(|n| n.to_string())),
                );
                let name = format!("{shard:0width$}");
                let label = format!("{}[{name}]", step.id);
                Unit::new(index, label, Some(Instance { file: name.clone(), name }), action)
            };
            return Ok(Some((0..shards).map(unit).collect()));
        }
        let Some(each) = step.each else {
            return Ok(Some(vec![Unit::new(index, step.id.clone(), None, action)]));
        };
        let name = &step.inputs[each].name;
        let folder = action.inputs[name];
        if folder.kind != Kind::Tree {
            let text =
                format!("stage {} runs over the entries of `{name}`, which is not a folder", step.stage);
            return Err(Error::study(&step.inputs[each].mark, text));
        }
        let entries = self.store.entries(&folder)?;
        let units = entries.into_iter().map(|(instance, file, digest)| {
            let mut action = action.clone();
            action.inputs.insert(name.clone(), digest);
            Unit::new(
                index,
                format!("{}[{instance}]", step.id),
                Some(Instance { name: instance, file }),
                action,
            )
        });
        Ok(Some(units.collect()))
    }

    /// The outputs of a step from those of its units: for a mapped step, folders with one entry for each.
    pub fn gather(&self, step: &Step, done: &[(Unit, Outcome)]) -> Result<Known> {
        let actions: Vec<_> = done
            .iter()
            .map(|(unit, _)| (unit.instance.as_ref().map(|i| i.name.clone()), unit.action.clone()))
            .collect();
        if !step.mapped() {
            let outputs = done.first().map(|(_, outcome)| outcome.outputs.clone()).unwrap_or_default();
            return Ok(Known { outputs, replaced: Vec::new(), actions });
        }
        let mut outputs = BTreeMap::new();
        for output in &step.outputs {
            let ending = Path::new(&output.file).extension().map(|e| format!(".{}", e.to_string_lossy()));
            let ending = ending.unwrap_or_default();
            let parts = done.iter().filter_map(|(unit, outcome)| {
                let instance = unit.instance.as_ref()?;
                Some((format!("{}{ending}", instance.name), outcome.outputs.get(&output.name)?.clone()))
            });
            outputs.insert(output.name.clone(), self.store.gather(&parts.collect::<Vec<_>>(), output.temp)?);
        }
        Ok(Known { outputs, replaced: Vec::new(), actions })
    }

    /// Notes a result as the newest success of its stage.
    pub fn note_last(&self, unit: &Unit, outcome: &Outcome) -> Result<()> {
        let (seconds, finished) = (outcome.seconds, outcome.finished);
        self.store.set_last(&unit.label, &Last { action: outcome.action.clone(), seconds, finished })
    }

    /// What a replaced step gives: the contents put in its place, and its newest own result for the rest.
    pub fn stand_in(&self, step: usize) -> Result<Option<Known>> {
        let Some(replaced) = self.replaced.get(&step) else { return Ok(None) };
        let of = &self.graph.steps[step];
        let mut outputs = BTreeMap::new();
        let last = self.store.last(&of.id).map(|last| last.action.key());
        if let Some(outcome) = last.map(|key| self.store.lookup(&key)).transpose()?.flatten() {
            outputs.extend(outcome.outputs);
        }
        outputs.extend(replaced.clone());
        for (reader, used) in self.graph.steps.iter().zip(&self.wanted) {
            for input in reader.inputs.iter().filter(|_| *used) {
                let Source::Output(from, output) = input.source else { continue };
                let name = &of.outputs[output.min(of.outputs.len() - 1)].name;
                if from == step && !outputs.contains_key(name) {
                    let (stage, reader) = (&of.stage, &reader.stage);
                    return Err(Error::Usage(format!(
                        "--with replaces stage {stage}, but {reader} also reads {stage}.{name}, which was never made; \
                         add --with {stage}.{name}=PATH"
                    )));
                }
            }
        }
        Ok(Some(Known { outputs, replaced: replaced.keys().cloned().collect(), actions: Vec::new() }))
    }
}

/// The outputs of a step that is done, and how they came about.
#[derive(Clone, Debug)]
pub struct Known {
    pub outputs: BTreeMap<String, Produced>,
    /// Outputs that `--with` replaced.
    pub replaced: Vec<String>,
    /// Of each unit, with the name of its entry where there are several.
    pub actions: Vec<(Option<String>, Action)>,
}

/// One action of a step.
#[derive(Clone, Debug)]
pub struct Unit {
    pub step: usize,
    /// The step's name, with the instance where there are several: `score[step-00002000]`.
    pub label: String,
    pub instance: Option<Instance>,
    pub action: Action,
    pub key: String,
}

/// The entry that a mapped step runs over.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name without an ending.
    pub name: String,
    /// Its whole name.
    pub file: String,
}

impl Unit {
    fn new(step: usize, label: String, instance: Option<Instance>, action: Action) -> Self {
        let key = action.key();
        Self { step, label, instance, action, key }
    }
}

/// The steps asked for and those they need; a replaced step needs nothing.
fn wanted(
    graph: &Graph,
    stages: &[String],
    replaced: &HashMap<usize, BTreeMap<String, Produced>>,
) -> Result<Vec<bool>> {
    let mut wanted = vec![false; graph.steps.len()];
    let targets: Vec<usize> = match stages {
        [] => {
            // Without names the targets are what nobody reads; a replaced step makes those before it needless.
            let read: HashSet<usize> = graph.steps.iter().flat_map(Step::needs).collect();
            (0..graph.steps.len()).filter(|i| !read.contains(i)).collect()
        }
        names => {
            let mut targets = Vec::new();
            for name in names {
                targets.extend(graph.find(name)?);
            }
            targets
        }
    };
    let mut open = targets;
    while let Some(i) = open.pop() {
        if !std::mem::replace(&mut wanted[i], true) && !replaced.contains_key(&i) {
            open.extend(graph.steps[i].needs());
        }
    }
    Ok(wanted)
}

/// A value given with `--set` to a command that has no place for it would be ignored; refuse it.
fn undeclared(step: &Step) -> Result<()> {
    let Call::Command(_, words) = &step.call else { return Ok(()) };
    for (name, value) in step.params.iter().filter(|(_, v)| v.mark.line == 0) {
        let used = words
            .iter()
            .flat_map(|w| &w.0)
            .any(|part| matches!(part, crate::study::template::Part::Slot(_, slot) if slot == name));
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
    let kept = store.at("describe").join(format!("{}-{called}", digest.hex()));
    if let Some(spec) = record::read(&kept) {
        return Ok(spec);
    }
    let spec = describe::ask(path, mark)?;
    record::write(&kept, &spec, false)?;
    Ok(spec)
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
fn venv(program: &Path, root: &Path) -> Option<String> {
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

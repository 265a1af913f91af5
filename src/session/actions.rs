//! From steps to actions, and from what these gave back to steps.

use crate::action::{Action, VERSION};
use crate::cache::results::{self, Last, Outcome};
use crate::error::{Error, Result};
use crate::session::programs::venv;
use crate::session::{Instance, Known, Session, Unit, lineage};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use store::digest::{Digest, Kind};
use store::ignore::Ignore;
use store::name;
use store::walk::{self, Hashed, Links};
use study::graph::{Call, Input, Source, Step};
use study::{Mark, sharded};

impl Session {
    /// The content of every input of a step; `None` while one of them is not known. `known` holds the outputs of
    /// the steps before.
    pub fn inputs(&self, step: &Step, known: &[Option<Known>]) -> Result<Option<BTreeMap<String, Digest>>> {
        let mut inputs = BTreeMap::new();
        for input in &step.inputs {
            let digest = match &input.source {
                Source::Path(path) => self.hash_path(path, &input.ignore, &input.mark)?.digest,
                Source::Lineage => match lineage::of(self, step, known) {
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

    /// Hashes a path of the study, of which what some lines say does not count.
    pub fn hash_path(&self, path: &Path, ignored: &[String], mark: &Mark) -> Result<Hashed> {
        let full = self.graph.root.join(path);
        let Ok(meta) = full.metadata() else {
            return Err(Error::study(mark, format!("no such file or folder: {}", path.display())));
        };
        let ignore = if meta.is_dir() { self.ignore(path, ignored)? } else { Ignore::nothing() };
        let hashed = walk::hash(&full, &self.store.stats, Links::Follow(&ignore))?;
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
                        files
                            .insert(word.to_string(), self.hash_path(path, &self.graph.ignore, mark)?.digest);
                    }
                }
                words.iter().map(ToString::to_string).collect()
            }
        };
        let ignored = |input: &&Input| {
            !input.ignore.is_empty() && inputs.get(&input.name).is_some_and(|is| is.kind == Kind::Tree)
        };
        let ignore = step.inputs.iter().filter(ignored).map(|i| (i.name.clone(), i.ignore.clone())).collect();
        let action = Action {
            version: VERSION,
            stage: step.stage.clone(),
            template,
            program: program.digest,
            params: program.params.clone(),
            inputs,
            files,
            ignore,
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
                Unit::new(index, label, Some(Instance::shard(name)), action)
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
        let units = entries.iter().map(|entry| {
            let mut action = action.clone();
            action.inputs.insert(name.clone(), entry.digest);
            let instance = Instance::of(entry);
            Unit::new(index, format!("{}[{}]", step.id, instance.name), Some(instance), action)
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
                let mut file = unit.instance.as_ref()?.stem.clone();
                file.push(&ending);
                Some((name::fit(&file, name::LONGEST), outcome.outputs.get(&output.name)?.clone()))
            });
            outputs.insert(output.name.clone(), self.store.gather(&parts.collect::<Vec<_>>(), output.temp)?);
        }
        Ok(Known { outputs, replaced: Vec::new(), actions })
    }

    /// Notes a result as the newest success of its stage.
    pub fn note_last(&self, unit: &Unit, outcome: &Outcome) -> Result<()> {
        let (seconds, finished) = (outcome.seconds, outcome.finished);
        results::set_last(
            &self.store,
            &unit.label,
            &Last { action: outcome.action.clone(), seconds, finished },
        )
    }

    /// What a replaced step gives: the contents put in its place, and its newest own result for the rest.
    pub fn stand_in(&self, step: usize) -> Result<Option<Known>> {
        let Some(replaced) = self.replaced.get(&step) else { return Ok(None) };
        let of = &self.graph.steps[step];
        let mut outputs = BTreeMap::new();
        let last = results::last(&self.store, &of.id).map(|last| last.action.key());
        if let Some(outcome) = last.map(|key| results::lookup(&self.store, &key)).transpose()?.flatten() {
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

    /// The newest result of a unit whose outputs are at hand, except those that may be dropped.
    pub fn lookup(&self, unit: &Unit) -> Result<Option<Outcome>> {
        let outputs = &self.graph.steps[unit.step].outputs;
        results::lookup_except(&self.store, &unit.key, |name| {
            outputs.iter().any(|o| o.temp && o.name == name)
        })
    }

    /// The steps whose outputs a unit reads and whose contents were dropped.
    pub fn dropped(&self, unit: &Unit) -> Result<BTreeSet<usize>> {
        let mut dropped = BTreeSet::new();
        for input in &self.graph.steps[unit.step].inputs {
            if let Source::Output(from, output) = input.source
                && self.graph.steps[from].outputs[output].temp
                && !self.store.ready(&unit.action.inputs[&input.name])?
            {
                dropped.insert(from);
            }
        }
        Ok(dropped)
    }
}

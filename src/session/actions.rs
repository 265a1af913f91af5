//! From steps to actions, and from what these gave back to steps.

use crate::action::{Action, VERSION};
use crate::cache::results::{self, ActionResult, Last};
use crate::name_map::NameMap;
use crate::session::error::{Error, Result};
use crate::session::programs::venv;
use crate::session::{Instance, Made, Session, StepOutputs, Task};
use std::collections::BTreeSet;
use std::sync::Arc;
use study::graph::{Call, Step};
use study::hidden;
use study::sharded;

impl Session {
    /// The actions of a step: one, or one for each entry of the folder it is mapped over. `None` while an input or
    /// the program is not known.
    pub fn tasks(&self, index: usize, known: &[Option<StepOutputs>]) -> Result<Option<Vec<Task>>> {
        let Some(program) = self.program_now(index)? else { return Ok(None) };
        let step = &self.graph.steps[index];
        let Some(inputs) = self.inputs(step, known)? else { return Ok(None) };
        let entries = match step.each {
            Some(each) => match self.entries(step, each, known)? {
                Some(entries) => Some(entries),
                None => return Ok(None),
            },
            None => None,
        };
        let mut files = NameMap::new();
        // An action is written down; who may read an address does not change what lies there.
        let open = |text: &str| hidden(text).into_owned();
        let template = match &step.call {
            Call::Run(name) => vec![name.value.clone()],
            Call::Command(mark, words) => {
                // A script that a command names is part of what it does.
                for (name, path) in self.followed(step) {
                    files.insert(name, self.hash_path(&path, mark)?.digest);
                }
                words.iter().map(|word| open(&word.to_string())).collect()
            }
        };
        let action = Action {
            version: VERSION,
            stage: step.stage.clone(),
            template,
            program: program.digest,
            params: program.params.iter().map(|(name, value)| (name.clone(), open(value))).collect(),
            inputs: NameMap::new(),
            names: NameMap::new(),
            files,
            ignore: self.ignored_of(step, &inputs),
            env: step.env.iter().map(|(name, value)| (name.clone(), open(value))).collect(),
            venv: venv(&program.path, &self.graph.root),
            outputs: step.outputs.iter().map(|o| (o.name.clone(), o.file.clone())).collect(),
        };
        if let Some(shards) = step.shards {
            let width = (shards - 1).to_string().len();
            let task = |shard: u32| {
                let mut action = action.clone();
                action.params.extend(
                    sharded::PARAMS.map(String::from).into_iter().zip([shard, shards].map(|n| n.to_string())),
                );
                let name = format!("{shard:0width$}");
                let label = format!("{}[{name}]", step.id);
                Task::new(index, label, Some(Instance::new(name.into())), inputs.clone(), action)
            };
            return Ok(Some((0..shards).map(task).collect()));
        }
        let Some(entries) = entries else {
            return Ok(Some(vec![Task::new(index, step.id.clone(), None, inputs, action)]));
        };
        let tasks = entries.into_iter().map(|(instance, entry)| {
            let label = format!("{}[{}]", step.id, instance.name);
            let inputs = inputs.iter().cloned().chain([entry]).collect();
            Task::new(index, label, Some(instance), inputs, action.clone())
        });
        Ok(Some(tasks.collect()))
    }

    /// The outputs of a step from those of its tasks: for a mapped step, folders with one entry for each.
    pub fn gather(&self, step: &Step, done: &[(&Task, &ActionResult)]) -> Result<StepOutputs> {
        let actions: Vec<_> = done.iter().map(|(task, outcome)| Made::new(task, outcome)).collect();
        if !step.mapped() {
            let outputs = done.first().map(|(_, outcome)| outcome.outputs.clone()).unwrap_or_default();
            return Ok(StepOutputs { outputs, replaced: Vec::new(), actions });
        }
        let mut outputs = NameMap::new();
        for output in &step.outputs {
            let parts = done.iter().filter_map(|(task, outcome)| {
                let name = task.instance.as_ref()?.published(&output.file);
                Some((name, outcome.outputs.get(&output.name)?.clone()))
            });
            outputs.insert(output.name.clone(), self.gather_parts(&parts.collect::<Vec<_>>(), output.temp)?);
        }
        Ok(StepOutputs { outputs, replaced: Vec::new(), actions })
    }

    /// Notes a result as the newest success of its stage.
    pub fn note_last(&self, task: &Task, outcome: &ActionResult) -> Result<()> {
        let (seconds, finished) = (outcome.seconds, outcome.finished);
        let last = Last { action: Arc::clone(&outcome.action), seconds, finished };
        Ok(results::set_last(&self.store, &task.label, &last)?)
    }

    /// What a replaced step gives: the contents put in its place, and its newest own result for the rest.
    pub fn stand_in(&self, step: usize) -> Result<Option<StepOutputs>> {
        let Some(replaced) = self.replaced.get(&step) else { return Ok(None) };
        let of = &self.graph.steps[step];
        let mut outputs = NameMap::new();
        let last = results::last(&self.store, &of.id).map(|last| last.action.key());
        if let Some(outcome) = last.map(|key| results::lookup(&self.store, &key)).transpose()?.flatten() {
            outputs.extend(outcome.outputs);
        }
        outputs.extend(replaced.clone());
        for (reader, used) in self.graph.steps.iter().zip(&self.wanted) {
            let read = reader.inputs.iter().filter(|_| *used).flat_map(|input| input.source.outputs());
            for (from, output) in read {
                let name = &of.outputs[output.min(of.outputs.len() - 1)].name;
                if from == step && !outputs.contains_key(name) {
                    return Err(Error::WithTooLittle {
                        stage: of.stage.clone(),
                        reader: reader.stage.clone(),
                        output: name.clone(),
                    });
                }
            }
        }
        Ok(Some(StepOutputs { outputs, replaced: replaced.keys().cloned().collect(), actions: Vec::new() }))
    }

    /// The newest result of a task whose outputs are at hand, except those that may be dropped.
    pub fn lookup(&self, task: &Task) -> Result<Option<ActionResult>> {
        let outputs = &self.graph.steps[task.step].outputs;
        let optional = |name: &str| outputs.iter().any(|o| o.temp && o.name == name);
        Ok(results::lookup_except(&self.store, &task.key, optional)?.map(|found| found.of(&task.action)))
    }

    /// The steps whose outputs a task reads and whose contents were dropped.
    pub fn dropped(&self, task: &Task) -> Result<BTreeSet<usize>> {
        let mut dropped = BTreeSet::new();
        for input in &self.graph.steps[task.step].inputs {
            for (from, output) in input.source.outputs() {
                if self.graph.steps[from].outputs[output].temp
                    && !self.store.materialize(&task.action.inputs[&input.name])?
                {
                    dropped.insert(from);
                }
            }
        }
        Ok(dropped)
    }
}

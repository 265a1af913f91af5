//! The study as a graph of steps, in an order that can be run.

use crate::clusters::Cluster;
use crate::de::{Marked, Text};
use crate::error::{Error, Result, hint};
use crate::file::{Cost, EngineName, Resources};
use crate::mark::Mark;
use crate::processes::Processes;
use crate::slurm::Slurm;
use crate::template::Word;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A study, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Name of the study.
    pub name: String,
    /// The folder that every path starts from.
    pub root: PathBuf,
    /// The folder of the newest outputs, relative to `root`.
    pub out: PathBuf,
    /// What does not count in folders of the study that are read, in lines as in a `.gitignore`.
    pub ignore: Vec<String>,
    /// How the programs are made, where the study says so.
    pub build: Option<BuildStep>,
    /// See [`Study::cache`](crate::file::Study::cache).
    pub cache: Option<Marked<String>>,
    /// See [`Study::ask_above`](crate::file::Study::ask_above).
    pub ask_above: Duration,
    /// What is called at the end of a run.
    pub on_end: Option<Vec<String>>,
    /// Steps, each after those it reads from.
    pub steps: Vec<Step>,
    /// Stages that read an output of every variant, and those that read theirs, when not every variant is selected.
    pub left_out: Vec<String>,
}

/// How the programs are made.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildStep {
    /// The command, without places to fill in.
    pub command: Vec<Word>,
    /// Files and folders that the programs are made of.
    pub sources: Vec<Marked<String>>,
    /// The folder where the programs appear, relative to the root or absolute.
    pub programs: PathBuf,
}

/// One stage, of the study as it stands or of variants that agree on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Name of the stage.
    pub stage: String,
    /// `train`, or `train@switch-s` where variants differ from the study as it stands.
    pub id: String,
    /// The selected variants that it belongs to; the empty name is the study as it stands.
    pub variants: Vec<String>,
    /// Index of the input whose entries the step runs over.
    pub each: Option<usize>,
    /// Number of shards that the step is made of.
    pub shards: Option<u32>,
    /// Where the stage is written.
    pub mark: Mark,
    /// What is run.
    pub call: Call,
    /// The script of `shell:`, which `call` has as a command.
    pub script: Option<String>,
    /// What it reads.
    pub inputs: Vec<Input>,
    /// Values that change the result, as the study gives them.
    pub params: Vec<(String, Marked<Text>)>,
    /// Values that change only the speed.
    pub tuning: Vec<(String, Marked<Text>)>,
    /// What it writes.
    pub outputs: Vec<Output>,
    /// What one process takes from the machine.
    pub resources: Resources,
    /// As how many processes it is started, where the study says so.
    pub processes: Option<Processes>,
    /// What it is expected to cost, where the study says so.
    pub cost: Option<Cost>,
    /// Where it runs.
    pub engine: EngineName,
    /// What sbatch is told of it.
    pub slurm: Slurm,
    /// Its batch system, where the study names one.
    pub cluster: Option<Arc<Cluster>>,
    /// Environment variables with their values.
    pub env: BTreeMap<String, String>,
    /// Names of environment variables handed on from the caller.
    pub pass_env: Vec<String>,
    /// How often it is run again after exit 75 or death by a signal.
    pub retries: u32,
    /// Longest time for one attempt.
    pub timeout: Option<Duration>,
    /// Outputs whose numbers are printed after the run.
    pub show: Vec<String>,
}

/// What is run.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// A program that keeps the stage contract.
    Run(Marked<String>),
    /// Any program.
    Command(Mark, Vec<Word>),
}

/// An input of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Where it is written.
    pub mark: Mark,
    /// Where it comes from.
    pub source: Source,
    /// Of a path: what of a folder does not count, in lines as in a `.gitignore`.
    pub ignore: Vec<String>,
}

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Index of a step and of one of its outputs.
    Output(usize, usize),
    /// A path, relative to the root or absolute.
    Path(PathBuf),
    /// `pipeline.lineage`.
    Lineage,
    /// `stage.output@*`: a folder with that output of every variant that has it.
    Across(Vec<Part>),
}

/// A variant's part of an input across variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The variant, which the entry is named for.
    pub variant: String,
    /// Index of a step.
    pub step: usize,
    /// Index of one of its outputs.
    pub output: usize,
}

impl Source {
    /// The outputs that it is made of: a step and one of its outputs.
    pub fn outputs(&self) -> Vec<(usize, usize)> {
        match self {
            Self::Output(step, output) => vec![(*step, *output)],
            Self::Across(parts) => parts.iter().map(|part| (part.step, part.output)).collect(),
            Self::Path(_) | Self::Lineage => Vec::new(),
        }
    }

    /// Gives the steps other indices: `place[old]` is the new one.
    pub(crate) fn renumber(&mut self, place: &[usize]) {
        match self {
            Self::Output(step, _) => *step = place[*step],
            Self::Across(parts) => parts.iter_mut().for_each(|part| part.step = place[part.step]),
            Self::Path(_) | Self::Lineage => {}
        }
    }
}

/// An output of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Name of the file or folder that the stage is asked to write.
    pub file: String,
    /// Where its entries appear while the stage runs.
    pub stream: Option<Stream>,
    /// Whether its content may be dropped.
    pub temp: bool,
    /// Where it is written.
    pub mark: Mark,
}

/// Where the entries of an output appear, each whole, while its stage runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Stream {
    /// In the output's own folder.
    Output,
    /// In the state folder: what begins and ends so.
    State(String, String),
}

impl Stream {
    /// `true`, `false`, or a name with one `*`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "true" => Some(Self::Output),
            "false" => None,
            pattern => {
                let (before, after) = pattern.split_once('*').unwrap_or((pattern, ""));
                Some(Self::State(before.into(), after.into()))
            }
        }
    }

    /// Whether an entry of this name belongs to it.
    pub fn takes(&self, name: &str) -> bool {
        match self {
            Self::Output => !name.starts_with('.') && !name.ends_with(".partial"),
            Self::State(before, after) => {
                name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
            }
        }
    }
}

impl Step {
    /// Whether it has several actions, whose outputs are gathered.
    pub fn mapped(&self) -> bool {
        self.each.is_some() || self.shards.is_some()
    }

    /// The steps that this one reads from.
    pub fn needs(&self) -> impl Iterator<Item = usize> {
        self.inputs.iter().flat_map(|input| input.source.outputs()).map(|(step, _)| step)
    }

    /// Whether it reads an output of every variant.
    pub fn across(&self) -> bool {
        self.inputs.iter().any(|input| matches!(input.source, Source::Across(_)))
    }
}

impl Graph {
    /// The steps called `name`: by their stage, or by their whole name with the variant.
    pub fn find(&self, name: &str) -> Result<Vec<usize>> {
        let named = |by: fn(&Step) -> &String| -> Vec<usize> {
            (0..self.steps.len()).filter(|i| by(&self.steps[*i]) == name).collect()
        };
        let found = Some(named(|s| &s.id)).filter(|f| !f.is_empty() && name.contains('@'));
        let found = found.unwrap_or_else(|| named(|s| &s.stage));
        if found.is_empty() {
            if self.left_out.iter().any(|stage| stage == name) {
                return Err(Error::NeedsAll(name.into()));
            }
            let near = hint(name, self.steps.iter().map(|s| s.stage.as_str()));
            return Err(Error::NoStage { name: name.into(), near });
        }
        Ok(found)
    }

    /// Steps and the name of an output of theirs, from `stage.output`.
    pub fn output(&self, reference: &str) -> Result<(Vec<usize>, String)> {
        let (stage, output) =
            reference.rsplit_once('.').ok_or_else(|| Error::NoReference(reference.into()))?;
        let steps = self.find(stage)?;
        let outputs = &self.steps[steps[0]].outputs;
        if outputs.iter().any(|o| o.name == output) {
            return Ok((steps, output.to_string()));
        }
        let near = hint(output, outputs.iter().map(|o| o.name.as_str()));
        Err(Error::NoOutput { stage: stage.into(), name: output.into(), near })
    }
}

//! What may stand in a study file: closed structs, one doc line per key.

use crate::clusters::keys::ClusterSaid;
use crate::de::{Marked, Ordered, Text};
use crate::processes::Processes;
use crate::quantity::{Bytes, Time};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A study.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Study {
    /// Name of the study.
    pub name: Marked<String>,
    /// Folder that paths start from, relative to this file's folder. Default `.`.
    pub root: Option<Marked<String>>,
    /// Folder where the newest outputs appear, relative to `root`. Default `out`. Studies that share a root share its store
    /// and need an `out` each. It may be a link to another disk.
    pub out: Option<Marked<String>>,
    /// A cache shared with others: a folder (relative to `root`) or a URL (`s3://`, `gs://`, `az://`, `http://`, `https://`).
    pub cache: Option<Marked<String>>,
    /// Lines as in a `.gitignore`: what does not count in a folder that is an input, beside what tools and editors leave.
    #[serde(default)]
    pub ignore: Vec<Marked<String>>,
    /// How the programs that `run:` names are made.
    pub build: Option<Build>,
    /// When a stage that took longer than this would run again only because its program changed, `run` asks first.
    /// Default `10m`.
    pub ask_above: Option<Time>,
    /// A command that is called at the end of a run that did something, with the run's record on its standard input; in
    /// `root`, with the caller's environment, for at most a minute.
    pub on_end: Option<Marked<Command>>,
    /// Where the stages run. Default `local`; `--engine` comes first.
    pub engine: Option<EngineName>,
    /// What sbatch is told of every stage that runs on Slurm.
    #[serde(default)]
    pub slurm: SlurmKeys,
    /// The batch system of every stage that runs on another one: a preset's name, or its commands.
    pub cluster: Option<Marked<ClusterSaid>>,
    /// The stages.
    pub stages: Ordered<Stage>,
}

/// How the programs that `run:` names are made: called when a source or a program is not what the last build left.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Build {
    /// The command, run from `root`.
    pub command: Marked<Command>,
    /// Files and folders it reads.
    pub sources: Vec<Marked<String>>,
    /// Folder where the programs appear. Default `$CARGO_TARGET_DIR/release`, else `target/release`.
    pub programs: Option<Marked<String>>,
}

/// A stage.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stage {
    /// A stage program: a name, looked for in what `build` makes and where stage programs are installed, or a path with a
    /// `/`.
    pub run: Option<Marked<String>>,
    /// Any program with its arguments, one line split as a shell splits it or a list of words; `${inputs.x}`, `${params.y}`,
    /// `${tuning.z}` and `${outputs.w}` are filled in. No shell runs: several lines, `&&`, `|`, `>` and their like are refused.
    pub command: Option<Marked<Command>>,
    /// A script for `bash -euo pipefail`, of as many lines as it takes, in which the same places are filled in, each as one
    /// word whatever is in it.
    pub shell: Option<Marked<String>>,
    /// An input that is a folder, of a stage or of the study: the stage runs once for each file or folder in it, and who
    /// reads its outputs reads a folder with one entry for each.
    pub each: Option<Marked<String>>,
    /// Run it in so many parts, each with its own cache entry: a stage program that knows `--shard` and `--shards`, or a
    /// command that names `${params.shard}`.
    pub shards: Option<Marked<u32>>,
    /// Name to `stage.output`, `stage.output@*` (of every variant), a path, or `pipeline.lineage`.
    #[serde(default)]
    pub inputs: Ordered<Marked<String>>,
    /// Lines as in a `.gitignore`, more of what does not count in inputs that are folders; or names of inputs with such
    /// lines.
    #[serde(default)]
    pub ignore: Ignored,
    /// Values that change the result; hashed.
    #[serde(default)]
    pub params: Ordered<Marked<Text>>,
    /// Values that change only the speed; not hashed.
    #[serde(default)]
    pub tuning: Ordered<Marked<Text>>,
    /// Names; or names to file names, where the file name matters (`scores: scores.json`), or to `file`, `stream` and
    /// `temp`.
    pub outputs: Outputs,
    /// What one process takes from the machine.
    #[serde(default)]
    pub resources: Resources,
    /// Start it as so many processes, which find each other by the variables that torchrun sets: a number, or
    /// `{nodes: 2, per-node: 8}`. Not in the key.
    pub processes: Option<Processes>,
    /// What it is expected to cost, for `plan --cost`, where no earlier run tells. Not in the key.
    #[serde(default)]
    pub cost: Option<Cost>,
    /// Where it runs. Default: where the study's stages run.
    pub engine: Option<EngineName>,
    /// What sbatch is told of it, over what the study says.
    #[serde(default)]
    pub slurm: SlurmKeys,
    /// Its batch system, over what the study says, or in its place where it names a preset.
    pub cluster: Option<Marked<ClusterSaid>>,
    /// Environment variables with their values; hashed.
    #[serde(default)]
    pub env: Ordered<Marked<Text>>,
    /// Environment variables handed on from the caller; neither hashed nor stored.
    #[serde(default)]
    pub pass_env: Vec<Marked<String>>,
    /// How often it is run again after exit 75, death by a signal or a time-out. Default 0.
    #[serde(default)]
    pub retries: u32,
    /// Longest time for one attempt, as `90s`, `30m`, `2h`.
    pub timeout: Option<Time>,
    /// Outputs (JSON files) whose numbers are printed after the run.
    #[serde(default)]
    pub show: Vec<Marked<String>>,
}

/// What one process of a stage takes from the machine.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Resources {
    /// Cores. Default 1; when given, it is also the stage's `OMP_NUM_THREADS`, unless the caller sets that.
    pub cpus: Option<u32>,
    /// Memory, as `4GiB`. Default 0: not counted.
    pub memory: Bytes,
    /// GPUs. Default 0.
    pub gpus: u32,
}

/// What a stage is expected to cost; of one in shards or mapped over a folder, each part of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Cost {
    /// Parameters with the values for which it holds. Default: all.
    pub when: Ordered<Marked<Text>>,
    /// Hours of one GPU, whatever the parameters.
    pub gpu_hours: f64,
    /// Hours of one core.
    pub cpu_hours: f64,
    /// What its outputs take.
    pub disk: Option<Bytes>,
    /// Parameters that count its work, with the seconds of one GPU for each that is counted: `{iterations: 0.76}`.
    pub gpu_seconds_per: Ordered<f64>,
    /// The same with seconds of one core.
    pub cpu_seconds_per: Ordered<f64>,
}

impl Cost {
    /// The parameters that count the work.
    pub fn counted(&self) -> impl Iterator<Item = &Marked<String>> {
        self.gpu_seconds_per.iter().chain(self.cpu_seconds_per.iter()).map(|(name, _)| name)
    }

    /// Every parameter that it names.
    pub fn names(&self) -> impl Iterator<Item = &Marked<String>> {
        self.counted().chain(self.when.iter().map(|(name, _)| name))
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpus: None, memory: Bytes(0), gpus: 0 }
    }
}

/// Where stages run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EngineName {
    /// This machine.
    #[default]
    Local,
    /// A Slurm cluster.
    Slurm,
    /// The batch system of `cluster`.
    Cluster,
}

impl EngineName {
    /// As a study file has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Slurm => "slurm",
            Self::Cluster => "cluster",
        }
    }
}

/// What `sbatch` is told beside a stage's resources.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct SlurmKeys {
    /// Partition. Default: the cluster's.
    pub partition: Option<Marked<String>>,
    /// Account that pays.
    pub account: Option<Marked<String>>,
    /// Longest time of the job, as `30m`, `2h`. Default: the stage's `timeout` and two minutes, else the partition's.
    pub time: Option<Time>,
    /// Further options of sbatch, as `--constraint=a100`.
    pub options: Vec<Marked<String>>,
    /// How often squeue is asked about all jobs together. Default `5s`.
    pub interval: Option<Time>,
    /// How many jobs of a run are with Slurm at a time, tasks of arrays counted each. Default: as many as there are.
    pub max_submitted: Option<Marked<u32>>,
}

/// Lines for all inputs of a stage, or for some.
#[derive(Clone, Debug, Default)]
pub struct Ignored {
    /// For all.
    pub all: Vec<Marked<String>>,
    /// For single ones.
    pub inputs: Vec<(Marked<String>, Vec<Marked<String>>)>,
}

/// One line that is split into words, or a list of words.
#[derive(Clone, Debug)]
pub enum Command {
    /// One line, split as a shell would.
    Line(String),
    /// Its words.
    Words(Vec<String>),
}

/// Output names with what is said of them.
#[derive(Clone, Debug)]
pub struct Outputs(pub Vec<(Marked<String>, Marked<Output>)>);

/// What is said of an output.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Output {
    /// Name of the file or folder that the stage writes. Default: the output's name.
    pub file: String,
    /// Entries of this folder are complete while the stage still runs, for `pipeline watch`: `true` where they appear in
    /// the folder itself, whole, by a rename; `step-*.bin` where files of such names appear so in `PIPELINE_STATE`.
    pub stream: Option<String>,
    /// `gc` may drop the content; the result still counts, and is made again when a later stage needs it.
    pub temp: bool,
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Command;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a command or a list of words")
            }
            fn visit_str<E>(self, text: &str) -> Result<Command, E> {
                Ok(Command::Line(text.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Command, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = seq.next_element()? {
                    words.push(word);
                }
                Ok(Command::Words(words))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Ignored;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of lines, or inputs with such lists")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ignored, A::Error> {
                let mut ignored = Ignored::default();
                while let Some(line) = seq.next_element()? {
                    ignored.all.push(line);
                }
                Ok(ignored)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ignored, A::Error> {
                let mut ignored = Ignored::default();
                while let Some(entry) = map.next_entry()? {
                    ignored.inputs.push(entry);
                }
                Ok(ignored)
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Outputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Outputs;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of names, or names with file names")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Outputs, A::Error> {
                let mut outputs = Vec::new();
                while let Some(name) = seq.next_element::<Marked<String>>()? {
                    let value = Output { file: name.value.clone(), ..Output::default() };
                    outputs.push((name.clone(), Marked { value, mark: name.mark }));
                }
                outputs.shrink_to_fit();
                Ok(Outputs(outputs))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outputs, A::Error> {
                let mut outputs = Vec::new();
                while let Some((name, said)) = map.next_entry::<Marked<String>, Marked<Said>>()? {
                    let Said(mut value) = said.value;
                    if value.file.is_empty() {
                        value.file.clone_from(&name.value);
                    }
                    outputs.push((name, Marked { value, mark: said.mark }));
                }
                outputs.shrink_to_fit();
                Ok(Outputs(outputs))
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// A file name, or a mapping.
struct Said(Output);

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Said;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a file name, or a mapping of `file`, `stream` and `temp`")
            }
            fn visit_str<E>(self, text: &str) -> Result<Said, E> {
                Ok(Said(Output { file: text.into(), ..Output::default() }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Said, A::Error> {
                Output::deserialize(de::value::MapAccessDeserializer::new(map)).map(Said)
            }
        }
        deserializer.deserialize_any(V)
    }
}

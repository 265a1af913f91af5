//! What the runner wrote about all stages before the report, and its settings and digests as sections.

use crate::document::{Block, Kind, Section, Table, code};
use crate::scores::{flatten, plain};
use anyhow::Result;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use stage::{BadInputExt, bad_input};
use std::collections::BTreeMap;
use std::path::Path;

/// Everything upstream of the report, in the order it ran.
#[derive(Debug, Default, Deserialize)]
pub struct Lineage {
    /// The study.
    #[serde(default)]
    pub study: Study,
    /// The stages, one entry for each action.
    pub stages: Vec<Stage>,
}

/// Which study it was.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Study {
    /// Its name.
    pub name: String,
    /// Its file, relative to its root.
    pub file: String,
    /// The variant, where there are some.
    pub variant: Option<String>,
    /// The profile, where one was asked for.
    pub profile: Option<String>,
    /// What `--set` said.
    pub set: Vec<String>,
    /// The folder of the programs, relative to the root.
    pub programs: String,
}

/// One action of a stage.
#[derive(Debug, Default, Deserialize)]
pub struct Stage {
    /// Name of the stage.
    pub stage: String,
    /// Of a stage with several actions: which one.
    #[serde(default)]
    pub entry: Option<String>,
    /// The name of a stage program, or a command in one line.
    #[serde(default)]
    pub program: Option<String>,
    /// The words of a command, with its places by name.
    #[serde(default)]
    pub command: Vec<String>,
    /// Digest of the program.
    #[serde(default)]
    pub program_digest: Option<Digest>,
    /// Every parameter in use.
    #[serde(default)]
    pub params: Map<String, Json>,
    /// Declared environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Digest of each input.
    #[serde(default)]
    pub inputs: BTreeMap<String, Digest>,
    /// Where each input came from, where the digest does not tell.
    #[serde(default)]
    pub sources: BTreeMap<String, Origin>,
    /// Digest of each output.
    #[serde(default)]
    pub outputs: BTreeMap<String, Digest>,
    /// Outputs that were put in the stage's place by hand.
    #[serde(default)]
    pub replaced: Vec<String>,
    /// When and where it ran.
    #[serde(default)]
    pub ran: Option<Ran>,
}

/// A digest, bare or with more beside it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Digest {
    /// The digest.
    Bare(String),
    /// The same, named.
    Named {
        /// The digest.
        digest: String,
    },
}

/// Where an input came from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Origin {
    /// A file or folder.
    Path {
        /// Its path, relative to the root or absolute.
        path: String,
    },
    /// Another stage's output, or an entry of it.
    Output {
        /// `stage.output`.
        output: String,
        /// The entry that a mapped stage runs over.
        #[serde(default)]
        entry: Option<String>,
    },
}

/// When and where an action ran.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Ran {
    /// Seconds since 1970 when it was done.
    pub finished: Option<u64>,
    /// How long the program ran.
    pub seconds: Option<f64>,
    /// Name of the machine.
    pub host: Option<String>,
    /// Its processor.
    pub processor: Option<String>,
    /// Its CPUs.
    pub cpus: Option<u64>,
    /// Its memory, bytes.
    pub memory: Option<u64>,
    /// Its GPUs.
    pub gpus: Vec<String>,
    /// Who started the program: `local`, `slurm`.
    pub engine: Option<String>,
    /// Processes of the stage.
    pub processes: Option<u64>,
    /// What the program computed on.
    pub device: Option<String>,
    /// CPU threads of an operation.
    pub threads: Option<u64>,
    /// Version of libtorch.
    pub libtorch: Option<String>,
    /// The study's commit.
    pub commit: Option<String>,
    /// Whether files of the study differed from it.
    pub changed: bool,
}

impl Digest {
    /// The digest itself.
    pub fn text(&self) -> &str {
        match self {
            Self::Bare(digest) | Self::Named { digest } => digest,
        }
    }
}

impl Lineage {
    /// Reads what the runner wrote for `pipeline.lineage`.
    ///
    /// # Errors
    /// Bad input when it is not of that shape.
    pub fn read(path: &Path) -> Result<Self> {
        let json: Json = stage::read_json(path)?;
        if !json.get("stages").is_some_and(Json::is_array) {
            bad_input!(
                "reading {}: no list `stages` with names and digests; give the file the runner writes for `pipeline.lineage`",
                path.display()
            )
        }
        serde_json::from_value(json).bad_input(|| format!("reading {}: its list `stages`", path.display()))
    }

    /// The value of a parameter of the stage that is called so.
    pub fn param(&self, stage: &str, name: &str) -> Option<&str> {
        self.stages.iter().find(|s| s.stage == stage)?.params.get(name)?.as_str()
    }

    /// The settings of every stage.
    pub fn settings(&self) -> Section {
        let mut section = Section::new("Settings");
        section.text("Every parameter in use that can change a result, stage by stage, defaults included.");
        let mut table = Table::new("", &["Stage", "Parameter", "Value"]).set(Kind::Settings);
        for (i, stage) in self.stages.iter().enumerate() {
            // A stage that ran once for each entry of a folder had the same parameters each time.
            if self.stages[..i].iter().any(|s| s.stage == stage.stage && s.params == stage.params) {
                continue;
            }
            let mut name = stage.stage.clone();
            for (key, value) in flatten(&Json::Object(stage.params.clone())) {
                table.row([std::mem::take(&mut name), code(&key), value]);
            }
        }
        match table.rows.is_empty() {
            true => section.text("No stage has parameters."),
            false => section.blocks.push(Block::Table(table)),
        }
        section
    }

    /// The digest of every input and output.
    pub fn provenance(&self) -> Section {
        let mut section = Section::new("Provenance");
        section.text(
            "BLAKE3 digests of what was read and written. Results with equal digests are equal byte for byte; an input that is \
             another stage's output names it.",
        );
        let origin: BTreeMap<&str, String> = self
            .stages
            .iter()
            .flat_map(|s| {
                s.outputs.iter().map(|(name, digest)| (digest.text(), format!("{}.{name}", s.stage)))
            })
            .collect();
        let mut table = Table::new("", &["Stage", "Read or written", "Digest"]).set(Kind::Digests);
        for stage in &self.stages {
            let mut name = match &stage.entry {
                Some(entry) => format!("{} {}", stage.stage, code(entry)),
                None => stage.stage.clone(),
            };
            let mut row = |what: String, digest: &Digest| {
                table.row([std::mem::take(&mut name), what, code(digest.text())]);
            };
            if let (Some(digest), Some(program)) = (&stage.program_digest, &stage.program) {
                row(format!("program {}", code(program)), digest);
            }
            for (input, digest) in &stage.inputs {
                let from = match stage.sources.get(input) {
                    Some(Origin::Path { path }) => Some(path),
                    _ => origin.get(digest.text()),
                };
                let from = from.map(|f| format!(" from {}", code(f))).unwrap_or_default();
                row(format!("reads {}{from}", code(input)), digest);
            }
            for (output, digest) in &stage.outputs {
                let given = if stage.replaced.contains(output) { ", given by hand" } else { "" };
                row(format!("writes {}{given}", code(output)), digest);
            }
        }
        section.blocks.push(Block::Table(table));
        section
    }
}

/// A table of one JSON object, key by key.
pub fn table(caption: &str, json: &Json) -> Table {
    let mut table = Table::new(caption, &["Setting", "Value"]);
    for (key, value) in flatten(json) {
        table.row([code(&key), value]);
    }
    if table.rows.is_empty() {
        table.row(["".into(), plain(json)]);
    }
    table
}

//! Where everything came from: the settings of each stage, digests, and the commands that do it again.

use crate::document::{Block, Section, Table, code};
use crate::scores::{flatten, plain};
use anyhow::Result;
use serde_json::{Map, Value as Json};
use stage::bad_input;
use std::collections::BTreeMap;
use std::path::Path;

/// Everything upstream of the report, in the order it ran.
#[derive(Debug)]
pub struct Lineage {
    stages: Vec<Stage>,
}

#[derive(Debug, Default)]
struct Stage {
    name: String,
    program: String,
    program_digest: String,
    params: Map<String, Json>,
    inputs: BTreeMap<String, String>,
    outputs: BTreeMap<String, String>,
}

impl Lineage {
    /// Reads what the runner wrote for `pipeline.lineage`.
    ///
    /// # Errors
    /// Bad input when it is not of that shape.
    pub fn read(path: &Path) -> Result<Self> {
        let json: Json = stage::read_json(path)?;
        let stages: Option<Vec<Stage>> = match json.get("stages") {
            Some(Json::Array(stages)) => {
                stages.iter().map(|s| Stage::new(s.get("stage")?.as_str()?, s)).collect()
            }
            _ => None,
        };
        match stages {
            Some(stages) => Ok(Self { stages }),
            None => bad_input!(
                "reading {}: no list `stages` with names and digests; give the file the runner writes for `pipeline.lineage`",
                path.display()
            ),
        }
    }

    /// The settings of every stage.
    pub fn settings(&self) -> Section {
        let mut section = Section::new("Settings");
        section
            .text("Every parameter that can change a result, stage by stage, as the programs were called.");
        let mut table = Table::new("", &["Stage", "Parameter", "Value"]);
        for (i, stage) in self.stages.iter().enumerate() {
            // A stage that ran once for each entry of a folder had the same parameters each time.
            if self.stages[..i].iter().any(|s| s.name == stage.name && s.params == stage.params) {
                continue;
            }
            let mut name = stage.name.clone();
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
            "BLAKE3 digests of everything that was read and written. Two results with equal digests are equal byte for byte; \
             an input that is another stage's output names it.",
        );
        let origin: BTreeMap<&str, String> = self
            .stages
            .iter()
            .flat_map(|s| {
                s.outputs.iter().map(|(name, digest)| (digest.as_str(), format!("{}.{name}", s.name)))
            })
            .collect();
        let mut table = Table::new("", &["Stage", "Read or written", "Digest"]);
        for stage in &self.stages {
            let mut name = stage.name.clone();
            let mut row =
                |what: String, digest: &str| table.row([std::mem::take(&mut name), what, code(digest)]);
            if !stage.program_digest.is_empty() {
                row(format!("program {}", code(&stage.program)), &stage.program_digest);
            }
            for (input, digest) in &stage.inputs {
                let from =
                    origin.get(digest.as_str()).map(|o| format!(" from {}", code(o))).unwrap_or_default();
                row(format!("reads {}{from}", code(input)), digest);
            }
            for (output, digest) in &stage.outputs {
                row(format!("writes {}", code(output)), digest);
            }
        }
        section.blocks.push(Block::Table(table));
        section
    }

    /// How to get the same again.
    pub fn reproduce(&self) -> Section {
        let mut section = Section::new("Reproduce");
        section.text("The whole study, from the folder that holds `pipeline.yaml`; what is there already is not done again:");
        section.blocks.push(Block::Code("pipeline plan    # what would run, and why\npipeline run".into()));
        section.text("Or stage by stage, by hand, with the files the digests above name:");
        let mut lines: Vec<String> = self.stages.iter().map(Stage::command).collect();
        lines.dedup();
        section.blocks.push(Block::Code(lines.join("\n")));
        section
    }
}

impl Stage {
    fn new(name: &str, json: &Json) -> Option<Self> {
        let object = |key: &str| json.get(key).and_then(Json::as_object).cloned().unwrap_or_default();
        let digests = |key: &str| {
            let text = |v: &Json| v.as_str().or_else(|| v.get("digest")?.as_str()).map(String::from);
            object(key).into_iter().map(|(k, v)| Some((k, text(&v)?))).collect::<Option<BTreeMap<_, _>>>()
        };
        let text = |key: &str| json.get(key).and_then(Json::as_str).unwrap_or_default().to_string();
        Some(Self {
            name: name.into(),
            program: text("program"),
            program_digest: text("program_digest"),
            params: object("params"),
            inputs: digests("inputs")?,
            outputs: digests("outputs")?,
        })
    }

    fn command(&self) -> String {
        let program = if self.program.is_empty() { &self.name } else { &self.program };
        let mut words = vec![program.clone()];
        words.extend(self.inputs.keys().map(|k| format!("--{k} {}", k.to_uppercase())));
        for (key, value) in &self.params {
            let value = match value {
                Json::String(s) => s.clone(),
                Json::Array(items) => items.iter().map(bare).collect::<Vec<_>>().join(","),
                other => bare(other),
            };
            words.push(format!("--{key} {}", quote(&value)));
        }
        words.extend(self.outputs.keys().map(|k| format!("--{k} OUT/{}/{k}", self.name)));
        words.join(" ")
    }
}

fn bare(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), String::from)
}

/// A word as a shell reads it back.
fn quote(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./,:=@+%".contains(c);
    if !word.is_empty() && word.chars().all(safe) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
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

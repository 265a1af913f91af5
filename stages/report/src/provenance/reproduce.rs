//! The commands that do a study again.

use super::lineage::{Digest, Lineage, Origin, Stage};
use crate::document::{Block, Section};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// The folder that the commands write to.
const OUT: &str = "reproduced";

/// The section: with the runner, and by hand. `programs` is a folder of the stage programs.
pub fn section(lineage: &Lineage, programs: Option<&str>) -> Section {
    let mut section = Section::new("Reproduce");
    let study = &lineage.study;
    let flags = flags(lineage);
    if study.file.is_empty() {
        section.text("With the runner, in the study's folder; `--file`, `--profile` and `--variant` where the study was run with them:");
    } else {
        section.text("With the runner, in the study's root:");
    }
    section.block_of_code(format!(
        "pipeline{} plan{}    # what would run, and why\npipeline{0} run{1}",
        flags.0, flags.1
    ));
    let script = Script::of(lineage, programs);
    let given = if script.asked { ", after the files it asks for are named," } else { "" };
    section.text(format!("Or stage by stage, without the runner{given} into the folder `{OUT}`:"));
    section.block_of_code(script.text);
    section
}

impl Section {
    fn block_of_code(&mut self, text: String) {
        self.blocks.push(Block::Code(text));
    }
}

/// What stands before the runner's command, and after it.
fn flags(lineage: &Lineage) -> (String, String) {
    let study = &lineage.study;
    let mut before = String::new();
    let mut after = String::new();
    if !study.file.is_empty() && study.file != "pipeline.yaml" {
        before += &format!(" --file {}", quote(&study.file));
    }
    for (flag, value) in [("profile", &study.profile), ("variant", &study.variant)] {
        if let Some(value) = value {
            after += &format!(" --{flag} {}", quote(value));
        }
    }
    study.set.iter().for_each(|set| after += &format!(" --set {}", quote(set)));
    (before, after)
}

/// Calls of a stage that differ in the entry of a folder alone: one line does them all.
struct Call<'a> {
    first: &'a Stage,
    entries: Vec<&'a str>,
    /// Inputs that are another entry in each call.
    mapped: Vec<&'a str>,
}

impl<'a> Call<'a> {
    fn all(lineage: &'a Lineage) -> Vec<Self> {
        let whole: Vec<&Stage> = lineage.stages.iter().filter(|s| !is_shard(s, lineage)).collect();
        let alike = |a: &&Stage, b: &&Stage| {
            let same = |s: &Stage| (s.stage.clone(), s.program.clone(), s.params.clone());
            a.entry.is_some() && b.entry.is_some() && same(a) == same(b)
        };
        let call = |part: &[&'a Stage]| {
            let differs =
                |name: &&String| part.iter().any(|s| s.inputs.get(*name) != part[0].inputs.get(*name));
            Self {
                first: part[0],
                entries: part.iter().filter_map(|s| s.entry.as_deref()).collect(),
                mapped: part[0].inputs.keys().filter(differs).map(String::as_str).collect(),
            }
        };
        whole.chunk_by(alike).map(call).collect()
    }

    /// What stands after the path of a folder to mean an entry of it.
    fn entry(&self) -> String {
        match self.entries.as_slice() {
            [] => String::new(),
            [one] => format!("/{}", quote(one)),
            _ => "/\"$entry\"".into(),
        }
    }
}

/// A script under construction.
struct Script<'a> {
    text: String,
    /// Where each known content will lie, as words of a shell.
    places: BTreeMap<&'a str, String>,
    /// Whether the reader has to name a file.
    asked: bool,
}

impl<'a> Script<'a> {
    fn of(lineage: &'a Lineage, programs: Option<&str>) -> Self {
        let mut script = Self { text: String::new(), places: BTreeMap::new(), asked: false };
        let folder = Some(lineage.study.programs.as_str()).filter(|p| !p.is_empty()).or(programs);
        if let Some(folder) = folder {
            let folder = quote(folder);
            let whole = if folder.starts_with(['/', '\'']) { folder } else { format!("\"$PWD\"/{folder}") };
            script.line(&format!("export PATH={whole}:\"$PATH\""));
        }
        let calls = Call::all(lineage);
        calls.iter().for_each(|c| script.ask(c));
        calls.iter().for_each(|c| script.run(c));
        script
    }

    fn line(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text += text;
    }

    /// Asks for what a stage reads that no stage before it made and that has no path.
    fn ask(&mut self, call: &Call<'a>) {
        let stage = call.first;
        for (name, digest) in inputs(stage) {
            if !stage.sources.contains_key(name) && !self.places.contains_key(digest.text()) {
                let mapped = call.mapped.contains(&name.as_str()).then(|| format!("the folder of {name}"));
                self.variable(digest, name, mapped);
            }
        }
        for (name, digest) in &stage.outputs {
            if stage.replaced.contains(name) {
                self.variable(digest, &format!("{}-{name}", stage.stage), None);
            } else {
                self.places.insert(digest.text(), quote(&format!("{OUT}/{}/{name}", stage.stage)));
            }
        }
    }

    /// A variable for a content that nobody here made; `folder` where the content is an entry of that.
    fn variable(&mut self, digest: &'a Digest, name: &str, folder: Option<String>) {
        let digest = digest.text();
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let base: String = name.chars().map(plain).collect();
        let place = |name: &str| format!("\"${name}\"");
        let taken = |name: &str| self.places.values().any(|v| *v == place(name));
        let numbered = |i: usize| if i == 1 { base.clone() } else { format!("{base}_{i}") };
        let variable = (1..).map(numbered).find(|n| !taken(n)).unwrap_or_default();
        let what = folder.unwrap_or_else(|| format!("the path of {name}, BLAKE3 {digest}"));
        self.line(&format!(": \"${{{variable}:?{what}}}\""));
        self.places.insert(digest, place(&variable));
        self.asked = true;
    }

    /// The path of an input, as a word of a shell.
    fn path(&self, call: &Call, name: &str, digest: &Digest) -> String {
        let mapped = call.mapped.contains(&name);
        match call.first.sources.get(name) {
            Some(Origin::Path { path }) => quote(path),
            Some(Origin::Output { output, entry }) => {
                let folder = quote(&format!("{OUT}/{}", output.replacen('.', "/", 1)));
                let entry = entry.as_ref().map(|e| format!("/{}", quote(e))).unwrap_or_default();
                folder + &if mapped { call.entry() } else { entry }
            }
            None => {
                let place = self.places.get(digest.text()).cloned().unwrap_or_default();
                if mapped { place + &call.entry() } else { place }
            }
        }
    }

    /// The command of a stage.
    fn run(&mut self, call: &Call) {
        let stage = call.first;
        // What was given by hand was not made.
        if !stage.outputs.is_empty() && stage.outputs.keys().all(|o| stage.replaced.contains(o)) {
            return;
        }
        let program = stage.program.as_deref().unwrap_or(&stage.stage);
        if stage.command.is_empty() && program.contains([' ', '$']) {
            self.line(&format!(
                "# {}: a command of the study's own; its file has it under this name",
                stage.stage
            ));
            return;
        }
        let environment: String = stage.env.iter().map(|(k, v)| format!("{k}={} ", quote(v))).collect();
        let output = |name: &str| quote(&format!("{OUT}/{}/{name}", stage.stage)) + &call.entry();
        let words = if stage.command.is_empty() {
            let mut words = vec![program.to_string()];
            words.extend(inputs(stage).map(|(k, d)| format!("--{k} {}", self.path(call, k, d))));
            let params = stage.params.iter().filter(|(k, _)| !matches!(k.as_str(), "shard" | "shards"));
            words.extend(params.map(|(k, v)| format!("--{k} {}", quote(&value(v)))));
            words.extend(stage.outputs.keys().map(|k| format!("--{k} {}", output(k))));
            words
        } else {
            let inputs: Places =
                stage.inputs.iter().map(|(k, d)| (k.as_str(), self.path(call, k, d))).collect();
            let outputs: Places = stage.outputs.keys().map(|k| (k.as_str(), output(k))).collect();
            let params: Places = stage.params.iter().map(|(k, v)| (k.as_str(), quote(&value(v)))).collect();
            let places = [("inputs", &inputs), ("outputs", &outputs), ("params", &params)];
            stage.command.iter().map(|word| filled(word, &places)).collect()
        };
        let line = format!("{environment}{}", words.join(" "));
        let folders: Vec<String> =
            stage.outputs.keys().map(|name| quote(&format!("{OUT}/{}/{name}", stage.stage))).collect();
        match call.entries.as_slice() {
            [_, _, ..] => {
                let entries: Vec<String> = call.entries.iter().map(|e| quote(e)).collect();
                self.line(&format!("mkdir -p {}", folders.join(" ")));
                self.line(&format!("for entry in {}; do {line}; done", entries.join(" ")));
            }
            // A stage program makes the folders above its outputs itself.
            _ if !stage.command.is_empty() => {
                self.line(&format!("mkdir -p {}", quote(&format!("{OUT}/{}", stage.stage))));
                self.line(&line);
            }
            _ => self.line(&line),
        }
    }
}

/// Words of a shell by the names of their places.
type Places<'a> = BTreeMap<&'a str, String>;

/// The inputs of a stage as it is called in one piece: what shards left for the call that joins them is none.
fn inputs(stage: &Stage) -> impl Iterator<Item = (&String, &Digest)> {
    let parts = |name: &str| name.strip_suffix("-parts").is_some_and(|n| stage.outputs.contains_key(n));
    stage.inputs.iter().filter(move |(name, _)| !parts(name))
}

/// Whether this action made a part of what another action of its stage joined: one call makes all of it.
fn is_shard(stage: &Stage, lineage: &Lineage) -> bool {
    let joins = |s: &Stage| inputs(s).count() < s.inputs.len();
    !joins(stage) && lineage.stages.iter().any(|s| s.stage == stage.stage && joins(s))
}

/// A word of a command with its places filled in; quoted where it needs it.
fn filled(word: &str, places: &[(&str, &Places)]) -> String {
    // What is filled in is quoted already, so that the rest of the word is quoted around it.
    let (mut out, mut rest) = (String::new(), word);
    loop {
        let found = places.iter().filter_map(|(kind, names)| {
            let at = rest.find(&format!("${{{kind}."))?;
            let (name, after) = rest[at + kind.len() + 3..].split_once('}')?;
            Some((at, names.get(name)?, after))
        });
        let Some((at, value, after)) = found.min_by_key(|f| f.0) else { break };
        if at > 0 {
            out += &quote(&rest[..at]);
        }
        out += value;
        rest = after;
    }
    if !rest.is_empty() || out.is_empty() {
        out += &quote(rest);
    }
    out
}

/// A value as a flag takes it.
fn value(json: &Json) -> String {
    let bare = |json: &Json| json.as_str().map_or_else(|| json.to_string(), String::from);
    match json {
        Json::Array(items) => items.iter().map(bare).collect::<Vec<_>>().join(","),
        other => bare(other),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_around_what_is_filled_in() {
        let inputs = BTreeMap::from([("a", "\"$A\"".to_string()), ("b", "'x y'".to_string())]);
        let fill = |word: &str| filled(word, &[("inputs", &inputs)]);
        assert_eq!(fill("plain"), "plain");
        assert_eq!(fill("ls \"$1\" | wc"), "'ls \"$1\" | wc'");
        assert_eq!(fill("--in=${inputs.a}"), "--in=\"$A\"");
        assert_eq!(fill("${inputs.b}"), "'x y'");
        assert_eq!(fill("${inputs.c}"), "'${inputs.c}'");
        assert_eq!(fill(""), "''");
    }
}

//! The commands in the documentation, run or not: each is one that there is, with options that it has.

use super::docs;
use super::followed::blocks;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

pub const STAGES: [&str; 6] = ["download", "encode", "train", "sample", "evaluate", "report"];

/// What a stage program says of itself, without its words.
pub fn described(stage: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/runner/described/{stage}.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Options in a text, `--name`.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '-'));
    words.filter(|word| word.starts_with("--") && word.len() > 2).map(String::from).collect()
}

/// The options of every command of the runner and of every stage; a stage is `stage NAME` there.
fn known() -> BTreeMap<String, BTreeSet<String>> {
    let page = fs::read_to_string(docs("reference/commands.md")).unwrap();
    let general = options(page.split("\n## Options of every command\n").nth(1).unwrap());
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for part in page.split("\n## ").skip(1) {
        let (name, text) = part.split_once('\n').unwrap();
        if name.contains(' ') {
            continue;
        }
        known.insert(name.into(), &options(text) | &general);
    }
    for stage in STAGES {
        let arguments = described(stage)["arguments"].as_array().unwrap().clone();
        let mut options: BTreeSet<String> =
            arguments.iter().map(|argument| format!("--{}", argument["name"].as_str().unwrap())).collect();
        // Questions, and what they take, are in no description.
        options.extend(["--help", "--version", "--describe", "--check"].map(String::from));
        if stage == "train" {
            options.extend(["--summary", "--doctor", "--side", "--classes", "--processes"].map(String::from));
        }
        // Every output takes the folder of its parts where a stage takes shards.
        known.insert(format!("stage {stage}"), options);
    }
    known.insert("help".into(), general.clone());
    known.insert(String::new(), &general | &BTreeSet::from(["--help".into(), "--version".into()]));
    known
}

/// What is wrong with one command line, if anything.
fn fault(line: &str, known: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let mut command = match STAGES.contains(&first) {
        true => format!("stage {first}"),
        false => String::new(),
    };
    let rest: Vec<&str> = words.take_while(|word| !["#", "|", "&&", ";", ">"].contains(word)).collect();
    let mut said = Vec::new();
    let mut value = false;
    for word in rest {
        let word = word.trim_matches(|c| "`'\",.:;)(".contains(c));
        if word.starts_with("--") && word.len() > 2 {
            said.push(word.split('=').next().unwrap().to_string());
            value = !word.contains('=') && ["--file", "--profile", "--cache", "--variant"].contains(&word);
        } else if value {
            value = false;
        } else if command.is_empty() && word.starts_with(|c: char| c.is_lowercase()) {
            command = word.into();
        } else if command == "stage" && word.starts_with(|c: char| c.is_lowercase()) {
            command = format!("stage {word}");
        }
    }
    let Some(options) = known.get(&command) else { return Some(format!("there is no `{command}`")) };
    let strange = said.into_iter().find(|option| !options.contains(option))?;
    Some(format!("`{command}` has no {strange}"))
}

/// The lines of commands in a text: in blocks those that begin so, and spans of code.
fn commands(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (language, block) in blocks(text) {
        if language.starts_with("text") || language.contains("file=") || language.starts_with("yaml") {
            continue;
        }
        let block = block.replace("\\\n", " ");
        let typed = block.lines().map(|line| line.trim().trim_start_matches("$ ").to_string());
        lines.extend(typed.filter(|line| line.starts_with("pipeline ")));
    }
    let mut inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        inside ^= line.starts_with("```");
        if !inside {
            prose.push_str(line);
            prose.push(' ');
        }
    }
    for span in prose.split('`').skip(1).step_by(2) {
        let stage = span.split_once(" --").is_some_and(|(name, _)| STAGES.contains(&name));
        if stage || span.starts_with("pipeline ") {
            lines.push(span.into());
        }
    }
    lines
}

fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            pages(&entry, found);
        } else if entry.extension().is_some_and(|e| e == "md") {
            found.push(entry);
        }
    }
}

#[test]
fn every_command_of_the_documentation_is_one() {
    let known = known();
    let mut found = Vec::new();
    pages(&docs(""), &mut found);
    for file in ["README.md", "CONTRIBUTING.md", "data/digits/README.md"] {
        found.push(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
    }
    let mut checked = 0;
    let mut faults = Vec::new();
    for page in found {
        for line in commands(&fs::read_to_string(&page).unwrap()) {
            checked += 1;
            faults.extend(fault(&line, &known).map(|what| format!("{}: {line}: {what}", page.display())));
        }
    }
    assert!(checked > 100, "only {checked} commands were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_command_that_is_none_is_found() {
    let known = known();
    let wrong = |line: &str| fault(line, &known).is_some();
    assert!(!wrong("pipeline --file a.yaml run --variant '*' --set train.lr=0.1") && !wrong("pipeline gc"));
    assert!(!wrong("pipeline stage train --summary --model x") && !wrong("sample --steps 5"));
    assert!(
        wrong("pipeline runn") && wrong("pipeline run --cards") && wrong("pipeline stage trian --model x")
    );
    assert!(wrong("sample --step 5") && wrong("pipeline stage sample --gpu 1"));
    assert_eq!(
        commands("a `pipeline gc` b\n```sh\npipeline run \\\n  --yes\n```\n"),
        ["pipeline run    --yes", "pipeline gc"]
    );
}

//! The generated pages of the book, `docs/reference/commands.md` and `docs/reference/study-file.md`, and pages whose
//! commands are run as they stand: `docs/begin`.

use crate::study::said;
use serde_json::{Map, Value};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn docs(page: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page)
}

/// What the runner prints.
fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pipeline")).args(arguments).env_clear().output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Holds a page to what it should be, or with `UPDATE_PAGES` in the environment makes it so.
fn hold(page: &str, text: &str) {
    if env::var_os("UPDATE_PAGES").is_some() {
        fs::write(docs(page), text).unwrap();
    }
    let kept = fs::read_to_string(docs(page)).unwrap_or_default();
    assert!(
        kept == text,
        "docs/{page} is stale; call: UPDATE_PAGES=1 cargo test -p pipeline -p store -p study --test runner pages"
    );
}

#[test]
fn the_page_of_commands_is_what_help_says() {
    let help = printed(&["--help"]);
    let list = help.split("Commands:\n").nth(1).and_then(|text| text.split("\n\n").next()).unwrap();
    // A line that goes on has no name at its beginning.
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<&str> =
        names.filter_map(|line| line.split_whitespace().next()).filter(|n| *n != "help").collect();
    assert!(names.contains(&"run") && names.contains(&"stage"), "{names:?}");
    let mut text = String::from(
        "# Commands\n\nGenerated from the declarations that `--help` prints. What every command takes stands once, at the end of the page.\n",
    );
    let (mut general, mut codes) = (String::new(), String::new());
    for name in names {
        let help = printed(&[name, "--help"]);
        let (own, rest) = help.split_once("\nOptions of every command:\n").unwrap_or((&help, ""));
        let (options, examples) = rest.split_once("\nExamples:\n").unwrap_or((rest, ""));
        if general.is_empty() {
            general = options.trim_end().to_string();
        }
        write!(text, "\n## {name}\n\n```text\n{}\n```\n", own.trim_end()).unwrap();
        if !examples.trim().is_empty() {
            write!(text, "\n```text\n{}\n```\n", examples.trim_end()).unwrap();
        }
    }
    for line in help.split("Exit codes: ").nth(1).unwrap_or_default().lines() {
        writeln!(codes, "{line}").unwrap();
    }
    write!(text, "\n## Options of every command\n\n```text\n{general}\n```\n").unwrap();
    write!(text, "\n## Exit codes and environment\n\n```text\n{}\n```\n", codes.trim_end()).unwrap();
    hold("reference/commands.md", &text);
}

/// How a type of the schema is called in the page.
fn kind(schema: &Value, named: &mut Vec<String>) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap().to_string();
        named.push(name.clone());
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(choices) = schema[key].as_array() {
            let kinds = choices.iter().filter(|choice| choice["type"] != "null");
            let mut kinds: Vec<String> = kinds.map(|choice| kind(choice, named)).collect();
            kinds.dedup();
            return kinds.join(" or ");
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .map(|value| format!("`{}`", value.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(value) = schema["const"].as_str() {
        return format!("`{value}`");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
        _ => return "anything".into(),
    };
    let mut of = |schema: &Value, word: &str| match schema {
        Value::Object(_) => format!("{word} of {}", kind(schema, named)),
        _ => word.to_string(),
    };
    let names = types.into_iter().map(|name| match name {
        "array" => of(&schema["items"], "list"),
        "object" => of(&schema["additionalProperties"], "mapping"),
        "integer" => "whole number".into(),
        "string" => "text".into(),
        "boolean" => "`true` or `false`".into(),
        other => other.to_string(),
    });
    names.collect::<Vec<_>>().join(" or ")
}

/// The keys of one mapping as a table.
fn keys(text: &mut String, schema: &Value, named: &mut Vec<String>) {
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    if properties.is_empty() {
        writeln!(text, "\n{}.", kind(schema, named)).unwrap();
        return;
    }
    let required =
        |key: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|name| name == key));
    text.push_str("\n| key | value | meaning |\n|---|---|---|\n");
    for (key, value) in properties {
        let needed = if required(key) { ", required" } else { "" };
        let meaning =
            value["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        writeln!(text, "| `{key}` | {}{needed} | {meaning} |", kind(value, named)).unwrap();
    }
}

#[test]
fn the_page_of_the_study_file_is_what_its_schema_says() {
    let schema: Value = serde_json::from_str(&printed(&["schema"])).unwrap();
    let mut text = String::from(
        "# The study file, key by key\n\nGenerated from the types that read it. [The runner](../runner.md) says what the keys are for.\n",
    );
    let mut named = Vec::new();
    keys(&mut text, &schema, &mut named);
    let mut told: Vec<String> = Vec::new();
    while !named.is_empty() {
        let mut deeper = Vec::new();
        for name in named {
            if told.contains(&name) {
                continue;
            }
            let definition = &schema["definitions"][&name];
            assert!(definition.is_object(), "the schema has no `{name}`");
            write!(text, "\n## {name}\n").unwrap();
            if let Some(about) = definition["description"].as_str() {
                write!(text, "\n{}\n", about.replace('\n', " ")).unwrap();
            }
            keys(&mut text, definition, &mut deeper);
            told.push(name);
        }
        named = deeper;
    }
    assert!(told.len() > 3, "{told:?}");
    hold("reference/study-file.md", &text);
}

/// A fenced block of a page: its language with what follows it, and its text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in page.lines() {
        match (line.strip_prefix("```"), open) {
            (Some(language), false) => blocks.push((language.to_string(), String::new())),
            (None, true) => {
                let (_, text) = blocks.last_mut().unwrap();
                text.push_str(line);
                text.push('\n');
            }
            _ => {}
        }
        open ^= line.starts_with("```");
    }
    assert!(!open, "a block does not end");
    blocks
}

/// Whether a line is as a page has it, where `…` stands for anything.
fn like(line: &str, pattern: &str) -> bool {
    let mut parts = pattern.trim_end().split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.trim_end().strip_prefix(first)) else {
        return false;
    };
    let mut open = false;
    for part in parts {
        open = true;
        let Some(place) = rest.find(part) else { return false };
        rest = &rest[place + part.len()..];
    }
    rest.is_empty() || open && pattern.trim_end().ends_with('…')
}

#[test]
fn an_ellipsis_stands_for_anything() {
    assert!(like("a took 3 s", "a took … s") && like("a", "a") && like("ab", "a…") && like("ab", "…b"));
    assert!(!like("a took 3 ms", "a took … s!") && !like("ab", "a") && !like("b", "a…"));
}

/// Runs a page in an empty folder as somebody who copies it: `sh` is typed, `FORMAT file=NAME` is saved, and every line of
/// the `text` behind a command is among what the command says. What needs a program that is not `here` is left out.
fn follow(page: &str, path: &str) {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(docs(page)).unwrap();
    let mut said = None;
    let mut typed = 0;
    for (language, text) in blocks(&text) {
        if let Some((_, name)) = language.split_once(" file=") {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        } else if language == "sh" {
            let mut shell = Command::new("bash");
            shell.args(["-euo", "pipefail", "-c", &text]).current_dir(folder.path());
            let output = shell.env("PATH", path).env("HOME", folder.path()).output().unwrap();
            let words = [&output.stdout[..], &output.stderr[..]].concat();
            let words = String::from_utf8_lossy(&words).into_owned();
            assert!(output.status.success(), "docs/{page}:\n{text}\n{words}");
            said = Some(words);
            typed += 1;
        } else if language == "text" {
            let words = said.as_ref().unwrap_or_else(|| panic!("docs/{page}: an answer to no command"));
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                assert!(
                    words.lines().any(|word| like(word, line)),
                    "docs/{page} says\n{line}\nbut it is\n{words}"
                );
            }
        }
    }
    assert!(typed > 0, "docs/{page} has nothing to type");
}

/// `PATH` with the runner first.
fn path() -> String {
    let runner = Path::new(env!("CARGO_BIN_EXE_pipeline")).parent().unwrap();
    format!("{}:{}", runner.display(), env::var("PATH").unwrap())
}

#[test]
fn the_first_study_can_be_followed() {
    follow("begin/first-study.md", &path());
}

#[test]
#[ignore = "wants scikit-learn in JUDGE_PYTHON; ci/study calls it"]
fn the_python_study_can_be_followed() {
    let python = PathBuf::from(env::var_os("JUDGE_PYTHON").unwrap_or_else(|| "python3".into()));
    let own = python.parent().filter(|p| !p.as_os_str().is_empty()).map(|p| format!("{}:", p.display()));
    follow("begin/python.md", &format!("{}{}", own.unwrap_or_default(), path()));
}

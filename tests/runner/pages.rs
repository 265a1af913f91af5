//! The generated pages of the book, in `docs/reference`: commands, the study file, the stages; and the others, whose
//! commands are run as they stand (`followed`) or held to the options that there are (`words`).

mod followed;
mod words;

pub use followed::{follow_in, path};

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
        "docs/{page} is stale; call: UPDATE_PAGES=1 cargo test --release --workspace --test runner -- --include-ignored pages::the_page"
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
        "# The study file, key by key\n\nGenerated from the types that read it. [The runner](runner.md) says what the keys are for.\n",
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

/// A type of `--describe` with its range, default and unit.
fn value(argument: &Value) -> String {
    let range = |kind: &Value| match (kind["min"].as_f64(), kind["max"].as_f64()) {
        (Some(_), Some(_)) => format!(", {} to {}", kind["min"], kind["max"]),
        (Some(_), None) => format!(", at least {}", kind["min"]),
        (None, Some(_)) => format!(", at most {}", kind["max"]),
        (None, None) => String::new(),
    };
    let name = |kind: &str| match kind {
        "flag" => "`true` or `false`".to_string(),
        "integer" => "whole number".to_string(),
        other => other.to_string(),
    };
    let mut text = match argument["type"].as_str().unwrap() {
        "choice" => {
            let values = argument["values"].as_array().unwrap().iter();
            values.map(|value| format!("`{}`", value.as_str().unwrap())).collect::<Vec<_>>().join(", ")
        }
        "list" => {
            format!("list of {}{}", name(argument["of"]["type"].as_str().unwrap()), range(&argument["of"]))
        }
        kind => format!("{}{}", name(kind), range(argument)),
    };
    if let Some(unit) = argument["unit"].as_str() {
        write!(text, "; {unit}").unwrap();
    }
    match &argument["default"] {
        Value::Null => {}
        Value::Array(values) if values.is_empty() => {}
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(Value::to_string).collect();
            write!(text, "; default `{}`", values.join(",")).unwrap();
        }
        Value::String(default) => write!(text, "; default `{default}`").unwrap(),
        default => write!(text, "; default `{default}`").unwrap(),
    }
    if argument["required"] == true { text + "; required" } else { text }
}

/// The page of a stage, from what its program says with `--describe` and `--help`.
fn page_of(stage: &str, described: &Value, help: &str) -> String {
    let mut text = format!("# {stage}\n\n{}\n", described["about"].as_str().unwrap());
    text.push_str("\nGenerated from the declarations that `--help` and `--describe` print.\n");
    let roles = [
        ("input", "Inputs", "Files and folders that are read. Their content is in the key."),
        ("param", "Parameters", "Values that change the result. They are in the key."),
        ("tuning", "Tuning", "Values that change only the speed. They are in no key."),
        ("output", "Outputs", "What is written; whole, or not at all."),
    ];
    for (role, title, about) in roles {
        let arguments = described["arguments"].as_array().unwrap().iter();
        let arguments: Vec<&Value> = arguments.filter(|argument| argument["role"] == role).collect();
        if arguments.is_empty() {
            continue;
        }
        write!(text, "\n## {title}\n\n{about}\n\n| flag and key | value | meaning |\n|---|---|---|\n")
            .unwrap();
        for argument in arguments {
            let mut meaning = argument["help"].as_str().unwrap().to_string();
            let meanings = argument["meanings"].as_array().into_iter().flatten();
            for (value, about) in argument["values"].as_array().into_iter().flatten().zip(meanings) {
                write!(meaning, "<br>`{}`: {}", value.as_str().unwrap(), about.as_str().unwrap()).unwrap();
            }
            let meaning = meaning.replace('\n', " ").replace('|', "\\|");
            let name = argument["name"].as_str().unwrap();
            writeln!(text, "| `--{name}` | {} | {meaning} |", value(argument).replace('|', "\\|")).unwrap();
        }
    }
    if let Some((_, questions)) = help.split_once("\nQuestions:\n") {
        let questions = questions.split("\n\n").next().unwrap();
        write!(text, "\n## Questions\n\nAnswered without any work.\n\n```text\n{questions}\n```\n").unwrap();
    }
    text
}

/// What a stage program prints, by way of the runner.
fn answered(stage: &str, option: &str) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pipeline")).args(["stage", stage, option]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs the programs; ci/study calls it"]
fn the_pages_of_the_stages_are_what_they_say() {
    for stage in words::STAGES {
        let described: Value = serde_json::from_str(&answered(stage, "--describe")).unwrap();
        hold(
            &format!("reference/stages/{stage}.md"),
            &page_of(stage, &described, &answered(stage, "--help")),
        );
    }
}

/// The same without the programs, as far as it goes: flags, types, ranges and defaults.
#[test]
fn the_pages_of_the_stages_have_every_argument() {
    for stage in words::STAGES {
        let page = fs::read_to_string(docs(&format!("reference/stages/{stage}.md"))).unwrap();
        let described = words::described(stage);
        let arguments = described["arguments"].as_array().unwrap();
        assert_eq!(page.lines().filter(|line| line.starts_with("| `--")).count(), arguments.len(), "{stage}");
        for argument in arguments {
            let name = argument["name"].as_str().unwrap();
            let start = format!("| `--{name}` | {} |", value(argument).replace('|', "\\|"));
            assert!(page.lines().any(|line| line.starts_with(&start)), "{stage}: no row begins with {start}");
        }
    }
}

/// An archive is checked by what its page says, also where it was fetched alone.
#[test]
fn one_archive_of_a_release_is_checked_by_itself() {
    for page in ["release/runner.md", "release/whole.md"] {
        let text = fs::read_to_string(docs(page)).unwrap();
        let (_, typed) =
            followed::blocks(&text).into_iter().find(|(_, text)| text.contains("SHA256SUMS")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        file("a.tar.gz", "a");
        file("b.tar.gz", "b");
        let call =
            |line: &str| Command::new("sh").args(["-ec", line]).current_dir(folder.path()).output().unwrap();
        assert!(call("sha256sum -- *.tar.gz >SHA256SUMS").status.success());
        fs::remove_file(folder.path().join("b.tar.gz")).unwrap();
        let checked = call(&typed);
        assert!(checked.status.success() && said(&checked) == "a.tar.gz: OK\n", "{page}: {}", said(&checked));
        file("a.tar.gz", "other");
        assert!(!call(&typed).status.success(), "{page}");
    }
}

//! Every row of the paper's tables and figures, in miniature: it trains, samples and is scored, from its own study file. Takes
//! minutes: `ci/study` runs it, after `ci/build`.

#![expect(clippy::unwrap_used, reason = "a test that cannot run a study has failed")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Steps of each training; the log has a line for each.
const STEPS: usize = 40;
/// Studies of one row, which have no variants.
const SINGLE: [&str; 2] = ["ffhq256", "imagenet256"];
/// Studies that score nothing: they draw gates, or samples.
const UNSCORED: [&str; 5] = ["figure-3", "figure-6", "figure-a", "figure-c", "figure-d"];
/// How many networks each file trains that no file before it has: the same network, however its row is written, is one. In
/// miniature sizes and iterations are the same, so more rows are equal than at full size.
const TRAININGS: [(&str, usize); 20] = [
    ("ffhq256", 1),
    ("figure-3", 3),
    ("figure-4", 11),
    ("figure-5", 0),
    ("figure-6", 0),
    ("figure-a", 0),
    ("figure-b", 0),
    ("figure-c", 2),
    ("figure-d", 0),
    ("imagenet256", 0),
    ("samplers", 0),
    ("table-1", 10),
    ("table-2", 0),
    ("table-3", 10),
    ("table-4", 1),
    // Four networks, and the stage that makes one model of them.
    ("table-a", 5),
    ("table-b", 0),
    // Its pictures are larger.
    ("table-c", 3),
    ("table-d", 0),
    // Its schedule is another.
    ("table-seeds", 18),
];
/// Figures of several networks on one page, and the heading that they stand under.
const SIDE_BY_SIDE: [(&str, &str); 4] = [
    ("figure-3", "Gating maps side by side"),
    ("figure-6", "Gating maps side by side"),
    ("figure-a", "Samples side by side"),
    ("figure-d", "Samples side by side"),
];
/// Studies beside the paper's tables that end with one.
const TABLES: [&str; 4] = ["figure-4", "figure-5", "figure-b", "samplers"];
/// Lines that are compared at the beginning and at the end of a log.
const LINES: usize = 8;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder with the digits, and with every study file over which these small numbers are put.
fn small_studies(root: &Path) -> Vec<String> {
    symlink(repository().join("data"), root.join("data")).unwrap();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(repository().join("target"), PathBuf::from);
    let programs = target.join("release").display().to_string();
    fs::create_dir(root.join("pipelines")).unwrap();
    symlink(repository().join("pipelines/published"), root.join("pipelines/published")).unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(repository().join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".yaml") else { continue };
        fs::copy(&path, root.join("pipelines").join(format!("{name}.yaml"))).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let sampled = "      sample: {params: {images: 40, steps: 5}, resources: {cpus: 1}}\n";
        let samples = match name {
            "figure-3" | "figure-6" | "figure-c" => String::new(),
            name if UNSCORED.contains(&name) => sampled.to_string(),
            _ => format!("{sampled}      evaluate: {{resources: {{cpus: 1}}}}\n"),
        };
        let training = format!(
            "{{params: {{iterations: {STEPS}, batch-size: 16, learning-rate: 3e-3, log-every: 1, \
             checkpoint-every: {}}}, resources: {{cpus: 1}}}}",
            STEPS / 2
        );
        let mut small = format!(
            "extends: pipelines/{name}.yaml\nroot: .\n\
             build: {{command: 'true', sources: [data], programs: {programs}}}\n\
             vars: {{miniature: tiny/2}}\n\
             profiles:\n  digits:\n    stages:\n      train: {training}\n{samples}"
        );
        if text.contains("\nseeds:") {
            // One is enough here.
            small.push_str("seeds: 1\n");
        }
        if text.contains("      train-2:") {
            small.push_str("    variants:\n      four-dit-b:\n        stages:\n");
            (1..=4).for_each(|i| small.push_str(&format!("          train-{i}: {training}\n")));
        }
        fs::write(root.join(format!("{name}.yaml")), small).unwrap();
        names.push(name.to_string());
    }
    names.sort();
    names
}

fn run(root: &Path, name: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_pipeline"))
        .args(["--file", &format!("{name}.yaml"), "--profile", "digits", "run", "--json"])
        .args(if SINGLE.contains(&name) { [].as_slice() } else { &["--variant", "*"] })
        .current_dir(root)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{error}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The mean noise error at both ends of a log.
fn ends(log: &Path) -> (f64, f64) {
    let text = fs::read_to_string(log).unwrap();
    let values: Vec<f64> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["mse"].as_f64().unwrap())
        .collect();
    assert_eq!(values.len(), STEPS, "{}", log.display());
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    (mean(&values[..LINES]), mean(&values[STEPS - LINES..]))
}

/// The folders below `out` that hold the outputs of a training, with the training's name.
fn trainings(out: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(out).unwrap() {
        let path = entry.unwrap().path();
        if path.join("log").is_file() {
            found.insert(path);
        } else if path.is_dir() && !path.is_symlink() {
            trainings(&path, found);
        }
    }
}

#[test]
#[ignore = "takes minutes; ci/study runs it"]
fn every_row_trains_samples_and_is_scored() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut ran: BTreeMap<String, usize> = BTreeMap::new();
    let mut rows = 0;
    let mut trained: Vec<(String, usize)> = Vec::new();
    for name in small_studies(root) {
        let report = run(root, &name);
        for row in report["stages"].as_array().unwrap().iter().filter(|row| row["fate"] == "ran") {
            let stage = row["stage"].as_str().unwrap().split('@').next().unwrap();
            *ran.entry(stage.to_string()).or_default() += 1;
        }
        let all: usize = ran.iter().filter(|(stage, _)| stage.starts_with("train")).map(|(_, ran)| ran).sum();
        trained.push((name.clone(), all - trained.iter().map(|(_, before)| before).sum::<usize>()));
        let table = root.join("out").join(&name).join("table/report/comparison.csv");
        assert_eq!(table.is_file(), name.starts_with("table") || TABLES.contains(&name.as_str()), "{name}");
        if let Some((_, heading)) = SIDE_BY_SIDE.iter().find(|(figure, _)| *figure == name) {
            let page =
                fs::read_to_string(root.join("out").join(&name).join("figure/report/report.md")).unwrap();
            assert!(page.contains(&format!("## {heading}\n")), "{name}: {page}");
        }
        if table.is_file() {
            shaped_like_the_paper(&name, &table);
        }
        let mut found = BTreeSet::new();
        trainings(&root.join("out").join(&name), &mut found);
        assert!(!found.is_empty(), "{name} trains nothing");
        for training in found {
            let (first, last) = ends(&training.join("log"));
            assert!(last < 0.97 * first, "{}: mse {first} to {last}", training.display());
            let row = training.parent().unwrap();
            if !UNSCORED.contains(&name.as_str()) && training.ends_with("train") {
                scored(row);
            }
            assert!(row.join("report/report/report.html").is_file(), "{} has no report", row.display());
            rows += 1;
        }
    }
    println!("{rows} trainings of rows; programs that ran: {ran:?}");
    // All rows share their data; equal rows are one.
    for stage in ["download", "reference"] {
        assert!(ran[stage] <= 2, "{stage} ran {} times", ran[stage]);
    }
    assert_eq!(
        trained,
        TRAININGS.map(|(name, count)| (name.to_string(), count)),
        "equal rows are trained once"
    );
}

/// A table has the paper's rows in its order, each with a score of ours.
fn shaped_like_the_paper(name: &str, table: &Path) {
    let published = match name {
        "figure-4" | "figure-b" => "table-2",
        name => name,
    };
    let file = repository().join(format!("pipelines/published/{published}.json"));
    let published: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let rows = published["rows"].as_array().unwrap().iter().map(|row| row["variant"].as_str().unwrap());
    let text = fs::read_to_string(table).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').map(String::from).collect::<Vec<_>>());
    let head = lines.next().unwrap();
    assert!(head.contains(&"fid".to_string()), "{name}: {text}");
    let ours: Vec<String> = lines.map(|line| line[0].clone()).collect();
    assert_eq!(ours, rows.collect::<Vec<_>>(), "{name}");
}

#[test]
#[ignore = "needs the programs; ci/study runs it"]
fn the_descriptions_that_the_runner_is_tested_with_are_the_programs_own() {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(repository().join("target"), PathBuf::from);
    for program in ["download", "encode", "train", "sample", "evaluate", "report"] {
        let output = Command::new(target.join("release").join(program)).arg("--describe").output().unwrap();
        let mut real: Value = serde_json::from_slice(&output.stdout).unwrap();
        // Words may change, and a program that only pretends answers nothing else.
        real.as_object_mut().unwrap().remove("check");
        real["about"] = "".into();
        real["arguments"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|argument| argument["help"] = "".into());
        let path = repository().join("tests/runner/described").join(format!("{program}.json"));
        let kept: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(kept, real, "{}: write down what `{program} --describe` says now", path.display());
    }
}

/// A row's scores are there and finite; Figure 5 has them for every checkpoint.
fn scored(row: &Path) {
    let scores = row.join("evaluate/scores");
    let files = if scores.is_dir() {
        fs::read_dir(&scores).unwrap().map(|entry| entry.unwrap().path()).collect()
    } else {
        vec![scores]
    };
    assert!(!files.is_empty(), "{}: nothing scored", row.display());
    for file in files {
        let scores: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert!(scores["fid"].as_f64().is_some_and(|fid| fid > 0.0), "{}: {scores}", file.display());
    }
}

//! The study files of `pipelines/` as they are, at full size and as digits, with programs that only pretend: which trainings
//! there are, what the tables are made of, and what `pipeline table` says of Table 1.

use crate::study::{Study, said};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The real programs' descriptions lie in `described/`, without their words; `ci/study` holds them to the programs. What a
/// program was told that is no path is noted, and goes on to whatever it makes.
const PRETENDER: &str = r#"#!/bin/sh
name=${0##*/}
[ "$1" = --describe ] && exec cat "${0%/*}/described/$name.json"
said=
while [ $# -gt 1 ]; do
  flag=${1#--}
  case $2 in
    .pipeline/*) eval "$(echo "$flag" | tr - _)=\$2" ;;
    data/* | pipelines/*) ;;
    *) said="$said|$flag=$2" ;;
  esac
  shift 2
done
sum() { find -L "$1" -type f | sort | xargs cat | cksum | cut -d ' ' -f 1; }
case $name in
  download) echo "$said" > "${images:-$weights}" ;;
  encode) { cat "$images"; echo "$said"; } > "$latents" ;;
  train)
    said="$said|data=$(sum "$latents")"
    mkdir "$checkpoints"
    for step in 1 2; do echo "$step$said" > "$checkpoints/step-0000000$step.safetensors"; done
    echo "$said" > "$log" ;;
  sample) echo "$(sum "$checkpoints")$said" > "$samples" ;;
  evaluate)
    [ -z "$statistics" ] || echo "$said" > "$statistics"
    if [ -n "$scores" ]; then
      n=$(($(sum "$samples") % 9000 + 1000))
      echo "{\"fid\": ${n%??}.${n#??}, \"inception_score\": 4${n%???}.5, \"precision\": 0.$n, \"samples\": {}}" > "$scores"
    fi ;;
  report)
    mkdir "$report"
    [ -z "$variant_scores" ] || ls "$variant_scores" > "$report/scores"
    [ -z "$variant_scores" ] || ls "$variant_checkpoints"/* > "$report/checkpoints" ;;
esac
echo "$name$said" >> ran
"#;

/// A folder in which every file of `pipelines/` runs as it is.
fn studies() -> (Study, Vec<String>) {
    let study = Study::new("name: none\nstages: {a: {command: 'touch ${outputs.x}', outputs: [x]}}\n");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["pipelines", "pipelines/published", "tests/runner/described"] {
        for entry in fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_file() {
                let name = entry.file_name().unwrap().to_str().unwrap();
                let to = folder.replace("tests/runner/described", "target/release/described");
                study.write(&format!("{to}/{name}"), &fs::read_to_string(&entry).unwrap());
            }
        }
    }
    for file in ["Cargo.toml", "Cargo.lock", ".cargo/c", "crates/c", "stages/s", "ci/libtorch"] {
        study.write(file, "");
    }
    study.program("ci/build", "#!/bin/sh\n");
    for program in ["download", "encode", "train", "sample", "evaluate", "report"] {
        study.program(&format!("target/release/{program}"), PRETENDER);
    }
    for file in ["data/ffhq-512/a.parquet", "data/digits/a.csv", "data/digits/vae.safetensors"] {
        study.write(file, file);
    }
    study.write("data/digits/inception.safetensors", "");
    let mut names: Vec<String> = fs::read_dir(root.join("pipelines"))
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".yaml")?.to_string()))
        .collect();
    names.sort();
    (study, names)
}

/// Runs every variant of a file, of one that has none the study itself. Returns what ran.
fn run(study: &Study, name: &str, profile: &[&str]) -> Vec<String> {
    let file = format!("pipelines/{name}.yaml");
    let common = [&["--file", &file], profile].concat();
    let all = study.call(&[&["plan", "--variant", "*"], common.as_slice()].concat());
    let variants: &[&str] = if all.status.success() { &["--variant", "*"] } else { &[] };
    let before = study.read("ran").lines().count();
    let mut command = study.command(&[&["run"], variants, common.as_slice(), &["--quiet"]].concat());
    // At full size every stage asks for a GPU.
    let output = command.env("CUDA_VISIBLE_DEVICES", "0").output().unwrap();
    assert!(output.status.success(), "{name}: {}", said(&output));
    study.read("ran").lines().skip(before).map(String::from).collect()
}

/// What a training was told, without what is so anyway: the network that it makes.
fn network(line: &str, defaults: &BTreeMap<String, String>) -> BTreeSet<String> {
    let told = line.split('|').skip(1).filter(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        let number = |text: &str| text.parse::<f64>().ok();
        let default = defaults.get(name).map(String::as_str);
        let same = default.is_some_and(|d| d == value || (number(d).is_some() && number(d) == number(value)));
        // What the name of a model says already.
        !same && !["experts=3", "top-k=2", "gating=prior"].contains(pair)
    });
    told.map(String::from).collect()
}

fn defaults(program: &str) -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/runner/described/{program}.json"));
    let described: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let arguments = described["arguments"].as_array().unwrap().iter();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    let defaults = arguments.filter(|a| !a["default"].is_null());
    defaults.map(|a| (a["name"].as_str().unwrap().to_string(), text(&a["default"]))).collect()
}

/// The rows of a table are the variants of its study, and those that the paper has.
fn check_table(study: &Study, name: &str) {
    let file =
        format!("pipelines/published/{}.json", if name.starts_with("figure-4") { "table-2" } else { name });
    let published: Value = serde_json::from_str(&study.read(&file)).unwrap();
    let rows = published["rows"].as_array().unwrap().iter();
    let mut rows: Vec<String> = rows.map(|row| row["variant"].as_str().unwrap().to_string()).collect();
    rows.sort();
    // One variant may stand in two groups.
    rows.dedup();
    if name == "table-seeds" {
        rows = rows.iter().flat_map(|row| (0..3).map(move |seed| format!("{row}-seed-{seed}"))).collect();
        rows.sort();
    }
    let scores = study.read(&format!("out/{name}/table/report/scores"));
    assert_eq!(scores.lines().collect::<Vec<_>>(), rows, "{name}");
    if name == "table-a" {
        let checkpoints = study.read("out/table-a/table/report/checkpoints");
        assert!(checkpoints.contains("four-dit-b:\n1\n2\n3\n4\n"), "{checkpoints}");
    }
}

fn all_train_once(profile: &[&str], networks: usize) {
    let (study, names) = studies();
    let (mut trained, mut tables) = (Vec::new(), 0);
    for name in &names {
        let ran = run(&study, name, profile);
        trained.extend(ran.into_iter().filter(|line| line.starts_with("train")));
        if study.exists(&format!("out/{name}/table")) {
            tables += 1;
            if name != "figure-b" {
                check_table(&study, name);
            }
        }
    }
    assert_eq!(tables, 13, "tables 1 to 4 and A to D, figures 4, 5 and B, samplers, Table 1 over seeds");
    let defaults = defaults("train");
    let mut made: BTreeMap<BTreeSet<String>, &String> = BTreeMap::new();
    for line in &trained {
        if let Some(other) = made.insert(network(line, &defaults), line) {
            panic!("one network was trained twice:\n{other}\n{line}");
        }
    }
    assert_eq!(made.len(), networks, "{trained:#?}");
    // In whatever order they come: nothing is left to be trained.
    for name in names.iter().rev() {
        assert_eq!(run(&study, name, profile), Vec::<String>::new(), "{name}");
    }
}

/// On FFHQ 15 rows of Table 1, 11 more of Table 3, 1 of Table 4, 2 of Table D, 3 of Table C; on ImageNet 12 of Table 2 and the four
/// experts of Table A. Over seeds, 2 more of 16 rows, and 3 of v-prediction and of rectified flow. All others are among these.
#[test]
fn every_network_of_the_paper_is_trained_once() {
    all_train_once(&[], 48 + 2 * 16 + 3 * 2);
}

/// As digits the networks of Table 2's L rows are those of Table 3's rows with constant weighting, and those over seeds are others.
#[test]
fn every_network_of_the_digits_copies_is_trained_once() {
    all_train_once(&["--profile", "digits"], 45 + 3 * 18);
}

#[test]
fn the_table_of_table_1_is_one_to_paste_into_a_paper() {
    let (study, _) = studies();
    let common = ["--file", "pipelines/table-1.yaml", "--profile", "digits"];
    let end = study.call(&[&["run", "--variant", "*"], &common[..]].concat());
    let end = String::from_utf8(end.stdout).unwrap();
    let table = |arguments: &[&str]| {
        let output = study.call(&[&["table"], arguments, &common].concat());
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(end.ends_with(&format!("\n\n{}", table(&[]))), "{end}");
    let text = table(&["--markdown", "--lowest", "fid", "--highest", "inception_score,precision"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 17, "{text}");
    assert_eq!(
        lines[0],
        "| variant | model | experts | top-k | gating | integration | fid | inception\\_score | precision |"
    );
    assert_eq!(lines[1], "| --- | --- | ---: | ---: | --- | --- | ---: | ---: | ---: |");
    let rows: Vec<Vec<&str>> =
        lines[2..].iter().map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
    assert_eq!(&rows[0][..6], ["dit-b", "dit-digits/2", "-", "-", "-", "-"]);
    assert_eq!(&rows[4][..6], ["m4-k3", "switch-dit-digits/2", "4", "3", "-", "-"]);
    assert_eq!(
        &rows[9][..6],
        ["gating-noisy-load-balance", "switch-dit-digits/2", "-", "-", "noisy-load-balance", "-"]
    );
    assert_eq!(&rows[14][..6], ["time-moe", "time-moe-digits/2", "-", "-", "-", "-"]);
    // One number of digits in a column, and one mark at least.
    for column in 6..9 {
        let decimals: BTreeSet<usize> =
            rows.iter().map(|row| row[column].trim_matches('*').split_once('.').unwrap().1.len()).collect();
        assert_eq!(decimals.len(), 1, "{text}");
        assert!(rows.iter().any(|row| row[column].starts_with("**")), "{text}");
    }
    let fid = |row: &Vec<&str>| row[6].trim_matches('*').parse::<f64>().unwrap();
    let best = rows.iter().map(fid).fold(f64::MAX, f64::min);
    assert!(rows.iter().all(|row| row[6].starts_with("**") == (fid(row) == best)), "{text}");
    let latex = table(&["--latex", "--sort", "fid", "--columns", "variant,experts,top-k,fid"]);
    assert!(
        latex
            .contains("\\begin{tabular}{lrrr}\n\\toprule\nvariant & experts & top-k & fid \\\\\n\\midrule\n"),
        "{latex}"
    );
    assert_eq!(latex.matches(" \\\\\n").count(), 16);
}

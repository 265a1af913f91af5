//! A runner that is killed at any moment, and the run after it: it ends as if nothing had been, and the store is whole.
//!
//! `KILLS` says how often, 5 times where it does not:
//! `KILLS=100 cargo test -p pipeline --test runner kills -- --nocapture`.

use crate::study::{Study, said};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Instant;

/// Folders with links and programs, entries one by one, a stage that goes on where it was, and a shared cache. The salt makes each round's
/// actions new ones, and is in no output.
const STUDY: &str = r#"name: kills
cache: shared
stages:
  parts:
    command: sh parts.sh ${outputs.files} ${params.salt}
    params: {salt: 0}
    outputs: [files]
  each:
    command: sh -c 'sleep 0.02; wc -c < "$1" > "$2"' -- ${inputs.file} ${outputs.size} ${params.salt}
    inputs: {file: parts.files}
    each: file
    params: {salt: 0}
    outputs: {size: size.txt}
  train:
    command: sh train.sh ${outputs.model} ${outputs.log} ${params.salt}
    inputs: {files: parts.files}
    params: {salt: 0}
    outputs: [model, log]
  report:
    command: sh -c 'cat "$1"/* "$2/weights" > "$3"' -- ${inputs.sizes} ${inputs.model} ${outputs.text}
    inputs: {sizes: each.size, model: train.model}
    outputs: [text]
"#;

const PARTS: &str = "mkdir \"$1\"
for i in 1 2 3 4 5 6; do head -c ${i}0000 /dev/zero > \"$1/$i.bin\"; done
sleep 0.05
";

/// Counts to ten in its state folder.
const TRAIN: &str = "n=$(cat \"$PIPELINE_STATE/n\" 2>/dev/null || echo 0)
while [ $n -lt 10 ]; do n=$((n+1)); echo $n > \"$PIPELINE_STATE/next\"; mv \"$PIPELINE_STATE/next\" \"$PIPELINE_STATE/n\"; sleep 0.02; done
mkdir -p \"$1/deep/er\"; seq 1 20000 > \"$1/weights\"; ln -s weights \"$1/newest\"; printf '#!/bin/sh\\n' > \"$1/deep/er/go\"; chmod +x \"$1/deep/er/go\"
echo $n > \"$2\"
";

fn study() -> Study {
    let study = Study::new(STUDY);
    study.write("parts.sh", PARTS);
    study.write("train.sh", TRAIN);
    study
}

fn salted(salt: usize) -> Vec<String> {
    let set = ["parts", "each", "train"].map(|stage| format!("--set={stage}.salt={salt}"));
    [vec!["run".to_string(), "--json".into()], set.to_vec()].concat()
}

/// What every stage gave, by the digests of its outputs.
fn digests(study: &Study, salt: usize) -> BTreeMap<String, Value> {
    let words = salted(salt);
    let output = study.call(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(output.status.success(), "round {salt}: {}", said(&output));
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = run["stages"].as_array().unwrap().iter();
    rows.map(|row| (row["stage"].as_str().unwrap().to_string(), row["outputs"].clone())).collect()
}

#[test]
fn a_runner_that_is_killed_at_any_moment_ends_the_next_time_as_if_nothing_had_been() {
    let kills: usize = std::env::var("KILLS").map_or(5, |kills| kills.parse().unwrap());
    let calm = study();
    let start = Instant::now();
    let expected = digests(&calm, 0);
    let whole = start.elapsed();
    assert_eq!(expected.len(), 4);
    let study = study();
    let mut unfinished = 0;
    for round in 1..=kills {
        let mut runner = study.command(&[]);
        runner.args(salted(round)).stdout(Stdio::null()).stderr(Stdio::null());
        let mut runner = runner.spawn().unwrap();
        // Each moment of a run comes about equally often, whatever the number of rounds.
        std::thread::sleep(whole.mul_f64(round as f64 * 0.618_034 % 1.0));
        runner.kill().unwrap();
        unfinished += usize::from(!runner.wait().unwrap().success());
        assert_eq!(digests(&study, round), expected, "round {round}");
        let verified = study.call(&["verify"]);
        assert!(verified.status.success() && said(&verified).contains(" 0 damaged"), "{}", said(&verified));
    }
    println!("{kills} kills of a run of {whole:.1?}, {unfinished} before its end");
    assert!(unfinished > 0, "every run was over before it was killed");
    let seq: String = (1..=20000).map(|n| format!("{n}\n")).collect();
    assert!(study.read("out/report/text").ends_with(&format!("60000\n{seq}")));
    assert!(!study.path(".pipeline/damaged").exists() && !study.path(".pipeline/refused").exists());
}

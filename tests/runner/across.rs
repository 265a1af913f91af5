//! Inputs across variants: a stage that reads an output of every variant, and runs once for the study.

use crate::study::{Study, said, stderr};
use serde_json::Value;
use std::fs;

/// `table` lists what it is given; `paper` reads the table.
const ROWS: &str = r#"name: rows
variants:
  small: {stages: {train: {params: {width: 1}}}}
  wide.2: {stages: {train: {params: {width: 2}}}}
  again: {stages: {train: {params: {width: 2}}}}
stages:
  train:
    command: sh -c 'echo train $1 >> ran; echo $1 > $2; mkdir $3; echo net $1 > $3/w' -- ${params.width} ${outputs.score} ${outputs.net}
    params: {width: 0}
    outputs: {score: score.json, net: net}
  table:
    command: sh -c 'echo table >> ran; ls $1 > $3; cat $1/* >> $3; cat $2/*/w >> $3' -- ${inputs.scores} ${inputs.nets} ${outputs.text}
    inputs: {scores: train.score@*, nets: train.net@*}
    outputs: {text: table.txt}
  paper:
    command: sh -c 'echo paper >> ran; cp $1 $2' -- ${inputs.table} ${outputs.text}
    inputs: {table: table.text}
    outputs: {text: paper.txt}
"#;

const TABLE: &str = "again.json\nsmall.json\nwide.2.json\n2\n1\n2\nnet 2\nnet 1\nnet 2\n";

#[test]
fn a_stage_reads_an_output_of_every_variant_and_runs_once() {
    let study = Study::new(ROWS);
    let plan = study.call(&["plan", "--variant", "*"]);
    let text = String::from_utf8(plan.stdout).unwrap();
    let row = text.lines().find(|l| l.starts_with("table ")).unwrap();
    assert!(row.contains("waiting") && row.contains("on train@small, train@wide.2"), "{text}");
    // It reads two outputs of each.
    assert_eq!(row.matches("train@small").count(), 1, "{text}");
    assert!(!text.contains("table@") && !text.contains("paper@"), "{text}");
    let mut ran = study.run(&["--variant", "*"]);
    assert_eq!(ran.split_off(2), ["table", "paper"]);
    // A folder with an entry for each variant, also for two that share a stage, with the ending of the output's file.
    assert_eq!(study.read("out/table/table.txt"), TABLE);
    assert_eq!(study.read("out/paper/paper.txt"), TABLE);
    assert!(!study.exists("out/small/table") && !study.exists("out/small/paper"));
    // Cached, and run again when a variant's output is another one: only then.
    assert!(study.run(&["--variant", "*"]).is_empty());
    study.write(
        "pipeline.yaml",
        &ROWS.replace(
            "small: {stages: {train: {params: {width: 1}}}}",
            "small: {stages: {train: {params: {width: 5}}}}",
        ),
    );
    assert_eq!(study.run(&["--variant", "*"]), ["train 5", "table", "paper"]);
    let why = study.call(&["why", "table", "--set", "train.width=7", "--variant", "*"]);
    assert!(said(&why).contains("it is decided when these are done"), "{}", said(&why));
    // The names of the variants are what the stage reads as well.
    study.write("pipeline.yaml", &ROWS.replace("  again:", "  anew:"));
    assert_eq!(study.run(&["--variant", "*"]), ["table", "paper"]);
}

#[test]
fn without_all_variants_it_is_left_out_unless_it_is_asked_for() {
    let study = Study::new(ROWS);
    let run = study.call(&["run", "--variant", "small"]);
    assert!(run.status.success() && study.read("ran") == "train 1\n", "{}", said(&run));
    let note = "left out: paper, table, which read every variant; --variant '*' has all\n";
    assert!(stderr(&run).starts_with(note), "{}", stderr(&run));
    assert!(stderr(&study.call(&["plan"])).starts_with(note));
    assert!(!stderr(&study.call(&["run", "--quiet"])).contains("left out"));
    // Asked for by name it brings every variant along.
    assert_eq!(study.run(&["table"]), ["train 2", "table"]);
    assert!(said(&study.call(&["log", "table"])).contains("table.log"));
    let wrong = study.call(&["run", "table", "--variant", "small"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(stderr(&wrong), "error: stage table reads every variant; ask for them with --variant '*'\n");
}

#[test]
fn it_is_in_the_graph_the_lineage_and_the_lock() {
    let paper = &ROWS[ROWS.find("  paper:").unwrap()..];
    let with_lineage = "  paper:
    command: sh -c 'cp $1 $3; true $2' -- ${inputs.lineage} ${inputs.table} ${outputs.text}
    inputs: {lineage: pipeline.lineage, table: table.text}
    outputs: {text: paper.txt}
";
    let study = Study::new(&ROWS.replace(paper, with_lineage));
    let graph = study.call(&["graph", "--json", "--variant", "*"]);
    let graph: Value = serde_json::from_slice(&graph.stdout).unwrap();
    let to_table: Vec<&Value> =
        graph["edges"].as_array().unwrap().iter().filter(|edge| edge["to"] == "table").collect();
    // Two variants share a stage: one edge with both outputs.
    assert_eq!(to_table.len(), 2, "{graph}");
    assert!(to_table.iter().all(|edge| edge["outputs"] == serde_json::json!(["score", "net"])), "{graph}");
    study.run(&["--variant", "*"]);
    let lineage: Value = serde_json::from_str(&study.read("out/paper/paper.txt")).unwrap();
    let stages: Vec<String> = lineage["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| format!("{} {}", stage["stage"].as_str().unwrap(), stage["variants"]))
        .collect();
    assert_eq!(stages, ["small/train [\"small\"]", "wide.2/train [\"wide.2\",\"again\"]", "table null"]);
    let lock = study.call(&["lock", "--variant", "*"]);
    assert!(lock.status.success(), "{}", said(&lock));
    assert!(study.call(&["run", "--variant", "*", "--locked"]).status.success());
}

#[test]
fn one_variant_that_fails_keeps_it_from_running() {
    let study = Study::new(
        &ROWS
            .replace("echo $1 > $2;", "[ ! -e fail$1 ]; echo $1 > $2;")
            .replace("sh -c 'echo train", "sh -ec 'echo train"),
    );
    study.write("fail2", "");
    let run = study.call(&["run", "--variant", "*", "--keep-going"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(!study.read("ran").contains("table"), "{}", study.read("ran"));
    assert!(study.exists("out/small/train/score.json"));
    fs::remove_file(study.path("fail2")).unwrap();
    assert_eq!(study.run(&["--variant", "*"]), ["train 2", "table", "paper"]);
}

#[test]
fn a_dropped_content_is_made_again_for_it() {
    let study = Study::new(&ROWS.replace("net: net}", "net: {file: net, temp: true}}"));
    study.run(&["--variant", "*"]);
    let gc = study.call(&["gc", "--variant", "*", "--grace", "0s", "--max-size", "0"]);
    assert!(gc.status.success(), "{}", said(&gc));
    let mut ran = study.run(&["table", "--force", "table"]);
    ran.sort();
    assert_eq!(ran, ["table", "train 1", "train 2"]);
    assert_eq!(study.read("out/table/table.txt"), TABLE);
}

#[test]
fn it_may_be_mapped_over_the_variants() {
    let yaml = "name: m
variants: {a: {stages: {gen: {params: {x: 1}}}}, b: {stages: {gen: {params: {x: 2}}}}}
stages:
  gen: {command: 'sh -c \"echo $1 > $2\" -- ${params.x} ${outputs.o}', params: {x: 0}, outputs: {o: o.txt}}
  look: {command: 'sh -c \"cat $1 > $2\" -- ${inputs.o} ${outputs.l}', each: o, inputs: {o: gen.o@*}, outputs: [l]}
";
    let study = Study::new(yaml);
    study.run(&["--variant", "*"]);
    assert_eq!((study.read("out/look/l/a"), study.read("out/look/l/b")), ("1\n".into(), "2\n".into()));
}

#[test]
fn mistakes_are_told_with_their_lines() {
    let cases = [
        (
            "scores: train.score@*",
            "scores: trian.score@*",
            "`trian.score@*`: there is no stage `trian`; did you mean `train`?",
        ),
        (
            "scores: train.score@*",
            "scores: train.scores@*",
            "stage train has no output `scores`; did you mean `score`?",
        ),
        ("scores: train.score@*", "scores: train@*", "`train@*` is not of the form stage.output@*"),
        ("train.score@*", "paper.text@*", "the stages go round in a circle: table → paper → table"),
        (
            "small: {stages: {",
            "small: {stages: {table: {retries: 1}, ",
            "stage table reads every variant, so it runs once and variant small cannot change it; change it in the study or in a \
             profile",
        ),
    ];
    for (old, new, text) in cases {
        let study = Study::new(&ROWS.replacen(old, new, 1));
        for arguments in [&["check"][..], &["run", "--variant", "*"]] {
            let output = study.call(arguments);
            let told = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{told}");
            let (place, told) = told.trim_end().split_once(": ").unwrap().1.split_once(": ").unwrap();
            assert!(place.starts_with("pipeline.yaml:") && told == text, "{place}: {told}");
        }
    }
    let variants = &ROWS[ROWS.find("variants:").unwrap()..ROWS.find("stages:\n  train").unwrap()];
    let study = Study::new(&ROWS.replace(variants, ""));
    let told = stderr(&study.call(&["check"]));
    assert!(
        told.ends_with(
            "`train.score@*` is that output of every variant, and the study has none; it needs `variants:`\n"
        ),
        "{told}"
    );
}

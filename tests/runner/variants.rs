//! Studies of studies: variants, matrices, profiles, variables, stages mapped over folders.

use crate::study::{GEN, Study, TOY, said, stderr};
use std::fs;

const MODELS: &str = r#"name: models
vars: {model: plain}
variants:
  wide: {vars: {model: wide}}
  same: {vars: {model: plain}}
matrix:
  vars.model: [a, b]
stages:
  data:
    command: sh -c 'echo data >> ran; echo 1 > $1' -- ${outputs.x}
    outputs: [x]
  train:
    command: sh -c 'echo train $2 >> ran; cat $1 > $3; echo $2 >> $3' -- ${inputs.x} ${params.model} ${outputs.m}
    inputs: {x: data.x}
    params: {model: "${vars.model}"}
    outputs: [m]
"#;

#[test]
fn variants_share_what_is_equal() {
    let study = Study::new(MODELS);
    let mut ran = study.run(&["--variant", "*"]);
    ran.sort();
    assert_eq!(ran, ["data", "train a", "train b", "train plain", "train wide"]);
    assert_eq!(study.read("out/wide/train/m"), "1\nwide\n");
    assert_eq!(study.read("out/same/train/m"), "1\nplain\n");
    assert!(!study.exists("out/train"));
    // The study as it stands is one more, and equal to `same`.
    assert!(study.run(&[]).is_empty());
    assert_eq!(study.read("out/train/m"), "1\nplain\n");
    let plan =
        String::from_utf8(study.call(&["plan", "--variant", "a", "--variant", "wide"]).stdout).unwrap();
    let names: Vec<_> = plan.lines().map(|l| l.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["data", "train@wide", "train@a"]);
}

#[test]
fn equal_actions_of_two_variants_run_once() {
    // The steps differ (one has a tuning value), the actions do not.
    let yaml = MODELS.replace("wide: {vars: {model: wide}}", "wide: {stages: {train: {retries: 1}}}");
    let study = Study::new(&yaml);
    let mut ran = study.run(&["--variant", "wide", "--variant", "same"]);
    ran.sort();
    assert_eq!(ran, ["data", "train plain"]);
    assert!(study.exists("out/wide/train/m") && study.exists("out/same/train/m"));
}

#[test]
fn a_variant_can_be_one_stage_of_the_command_line() {
    let study = Study::new(MODELS);
    assert_eq!(study.run(&["--variant", "a", "--set", "train.model=c"]), ["data", "train c"]);
    assert_eq!(study.run(&["--set", "vars.model=d"]), ["train d"]);
    let wrong = study.call(&["run", "--variant", "wid"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(stderr(&wrong), "error: the study has no variant `wid`; did you mean `wide`?\n");
}

#[test]
fn two_variants_are_compared() {
    let study = Study::new(MODELS);
    study.run(&["--variant", "*"]);
    let text = String::from_utf8(study.call(&["diff", "wide", "same"]).stdout).unwrap();
    assert!(
        text.contains("train") && text.contains("model") && text.contains("wide") && text.contains("plain"),
        "{text}"
    );
    assert!(!text.contains("data"), "{text}");
}

#[test]
fn a_study_extends_another_and_takes_a_profile() {
    let study = Study::new(TOY);
    study.write(
        "small.yaml",
        "extends: pipeline.yaml\nname: small\nstages: {gen: {params: {size: 2}}}\nprofiles: {one: {stages: {gen: {params: {size: 1}}}}}\n",
    );
    study.run(&["--file", "small.yaml"]);
    assert_eq!(study.read("out/count/n"), "2\n");
    study.run(&["--file", "small.yaml", "--profile", "one"]);
    assert_eq!(study.read("out/count/n"), "1\n");
}

const EACH: &str = "name: each
stages:
  gen:
    run: ./gen
    params: {size: 3}
    outputs: [files]
  score:
    command: sh -c 'echo score $(cat $1) >> ran; wc -c < $1 > $2; [ ! -e fail ] || [ \"$(cat $1)\" != \"file 1\" ]' -- ${inputs.file} ${outputs.n}
    each: file
    inputs: {file: gen.files}
    outputs: {n: n.txt}
  curve:
    command: sh -c 'echo curve >> ran; cd $1; ls > $2; cat * >> $2' -- ${inputs.all} ${outputs.list}
    inputs: {all: score.n}
    outputs: [list]
";

#[test]
fn a_stage_is_mapped_over_a_folder_and_gathered() {
    let study = Study::new(&EACH.replace("cd $1; ls > $2; cat * >> $2", "ls $1 > $2; cat $1/* >> $2"));
    assert_eq!(study.run(&[]).len(), 5);
    assert_eq!(study.read("out/curve/list"), "0.txt\n1.txt\n2.txt\n7\n7\n7\n");
    assert_eq!(study.read("out/score/n.txt/1.txt"), "7\n");
    assert!(study.run(&[]).is_empty());
    // One more file: one more instance, nothing again.
    assert_eq!(study.run(&["--set", "gen.size=4"]), ["gen", "score file 3", "curve"]);
    let plan =
        String::from_utf8(study.call(&["plan", "--set", "gen.size=4", "--force", "score"]).stdout).unwrap();
    assert!(plan.contains("score  to run") && plan.contains("4 of 4 entries"), "{plan}");
}

const FOLDER: &str = "name: folder
stages:
  m:
    command: sh -c 'basename $1 >> ran; cp $1 $2' -- ${inputs.f} ${outputs.o}
    each: f
    inputs: {f: d}
    outputs: {o: o.txt}
";

#[test]
fn a_stage_is_mapped_over_a_plain_folder_of_the_study() {
    let study = Study::new(FOLDER);
    for (name, text) in [("d/a.txt", "1"), ("d/b.txt", "2"), ("d/b.bin", "3"), ("d/c", "1")] {
        study.write(name, text);
    }
    let check = study.call(&["check"]);
    assert!(check.status.success(), "{}", said(&check));
    let mut ran = study.run(&[]);
    ran.sort();
    // Two files of one content are two actions, as the stage sees two names.
    assert_eq!(ran, ["a.txt", "b.bin", "b.txt", "c"]);
    let out = |name: &str| study.read(&format!("out/m/o.txt/{name}"));
    assert_eq!(["a.txt", "b.txt.txt", "b.bin.txt", "c.txt"].map(out), ["1", "2", "3", "1"]);
    assert!(study.run(&[]).is_empty());
    // Only what is new or changed runs.
    study.write("d/a.txt", "4");
    assert_eq!(study.run(&[]), ["a.txt"]);
    fs::rename(study.path("d/c"), study.path("d/g")).unwrap();
    assert_eq!(study.run(&[]), ["g"]);
    assert_eq!(study.read("out/m/o.txt/g.txt"), "1");
    // A folder is an entry as well.
    study.write("d/e/f", "5");
    study.write("pipeline.yaml", &FOLDER.replace("cp $1 $2", "cat $1 > $2 2> /dev/null || ls $1 > $2"));
    assert_eq!(study.run(&[]).len(), 5);
    assert_eq!(study.read("out/m/o.txt/e.txt"), "f\n");
    // What is no folder has no entries.
    study.write("pipeline.yaml", &FOLDER.replace("f: d}", "f: d/a.txt}"));
    let refused = study.call(&["run"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(
        said(&refused)
            .contains("pipeline.yaml:6: stage m runs over the entries of `f`, which is not a folder")
    );
}

const SHARDS: &str = r#"name: shards
stages:
  part:
    run: ./part
    shards: 3
    params: {size: 7}
    outputs: [list]
  read:
    command: sh -c 'echo read >> ran; cat "$1"/all > "$2"' -- ${inputs.list} ${outputs.y}
    inputs: {list: part.list}
    outputs: [y]
  raw:
    command: sh -c 'echo raw $1 >> ran; echo $1 of $2 > "$3"' -- ${params.shard} ${params.shards} ${outputs.z}
    shards: 2
    outputs: {z: z.txt}
"#;

/// Writes the numbers below `--size` that fall to its shard, or joins what its shards wrote.
const PART: &str = r#"#!/bin/sh
if [ "$1" = --describe ]; then cat <<'J'
{"name": "part", "about": "Writes numbers.", "arguments": [
 {"name": "list-parts", "role": "input", "type": "path", "required": false, "help": "Parts."},
 {"name": "size", "role": "param", "type": "integer", "required": true, "help": "How many."},
 {"name": "shards", "role": "param", "type": "integer", "required": false, "default": 1, "help": "Shards."},
 {"name": "shard", "role": "param", "type": "integer", "required": false, "default": 0, "help": "Shard."},
 {"name": "list", "role": "output", "type": "path", "required": true, "help": "Folder."}]}
J
exit 0; fi
shard=0; shards=1
while [ $# -gt 0 ]; do
  case $1 in --size) size=$2;; --shard) shard=$2;; --shards) shards=$2;; --list) out=$2;; --list-parts) parts=$2;; esac
  shift 2
done
mkdir -p "$out"
if [ -n "$parts" ]; then echo join >> ran; cat "$parts"/*/all > "$out/all"; exit 0; fi
echo part $shard >> ran
i=$((size * shard / shards)); while [ $i -lt $((size * (shard + 1) / shards)) ]; do echo $i >> "$out/all"; i=$((i+1)); done
"#;

#[test]
fn shards_are_joined_to_what_one_piece_gives() {
    let whole = Study::new(&SHARDS.replace("    shards: 3\n", ""));
    whole.program("part", PART);
    whole.run(&["read"]);
    let study = Study::new(SHARDS);
    study.program("part", PART);
    let mut ran = study.run(&["--jobs", "2", "read"]);
    ran.sort();
    assert_eq!(ran, ["join", "part 0", "part 1", "part 2", "read"]);
    assert_eq!(study.read("out/read/y"), "0\n1\n2\n3\n4\n5\n6\n");
    let place =
        |study: &Study| study.path("out/part/list").canonicalize().unwrap().file_name().unwrap().to_owned();
    assert_eq!(place(&whole), place(&study));
    // Each shard is cached by itself; in another number of pieces it is the same, and nothing downstream runs.
    assert!(study.run(&["read"]).is_empty());
    study.write("pipeline.yaml", &SHARDS.replace("shards: 3", "shards: 2"));
    let mut ran = study.run(&["read"]);
    ran.sort();
    assert_eq!(ran, ["join", "part 0", "part 1"]);
    let mut ran = study.run(&["raw"]);
    ran.sort();
    assert_eq!(ran, ["raw 0", "raw 1"]);
    assert_eq!(study.read("out/raw/z.txt/1.txt"), "1 of 2\n");
    assert!(study.call(&["log", "part.shards[0]"]).status.success());
    assert_eq!(study.run(&["--set", "part.size=8", "--force", "raw"]).len(), 6);
}

#[test]
fn what_cannot_be_sharded_is_refused() {
    for (yaml, text) in [
        (
            SHARDS
                .replace("run: ./part", "run: ./gen")
                .replace("[list]", "{files: f}")
                .replace("part.list", "part.files"),
            "stage part: gen cannot be sharded, it has no parameter `shard`",
        ),
        (
            SHARDS.replace("-- ${params.shard} ", "-- "),
            "the command never names ${params.shard}: its shards would all do the same",
        ),
        (
            SHARDS.replace("shards: 3", "shards: 0"),
            "0 shards would do nothing; leave `shards` out for one piece",
        ),
        (
            SHARDS.replace("{size: 7}", "{size: 7, shards: 2}"),
            "`shards` gives the parameter `shards` already",
        ),
    ] {
        let study = Study::new(&yaml);
        study.program("part", PART);
        let refused = study.call(&["run"]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).trim_end().ends_with(text), "{}", stderr(&refused));
    }
}

#[test]
fn one_failed_instance_keeps_the_others() {
    let study = Study::new(&EACH.replace("cd $1; ls > $2; cat * >> $2", "ls $1 > $2"));
    study.write("fail", "");
    let failed = study.call(&["run", "--keep-going"]);
    assert_eq!(failed.status.code(), Some(1));
    std::fs::remove_file(study.path("fail")).unwrap();
    assert_eq!(study.run(&[]), ["score file 1", "curve"]);
}

#[test]
fn consent_before_a_long_stage_runs_for_its_program_alone() {
    let study = Study::new(&TOY.replace("name: toy\n", "name: toy\nask-above: 0s\n"));
    study.run(&[]);
    study.program("gen", &GEN.replace("echo file", "echo File"));
    let refused = study.call(&["run"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("`pipeline accept gen` keeps its outputs"), "{}", stderr(&refused));
    let accepted = String::from_utf8(study.call(&["accept", "gen"]).stdout).unwrap();
    assert_eq!(accepted, "gen: accepted, although program `./gen` changed\n");
    assert!(study.run(&[]).is_empty());
    assert_eq!(study.read("out/gen/files/0"), "file 0\n");
    study.program("gen", &GEN.replace("echo file", "echo FILE"));
    assert_eq!(study.run(&["--yes"]), ["gen", "count"]);
    // A parameter that changed needs no consent.
    assert_eq!(study.run(&["--set", "gen.size=1"]), ["gen", "count", "score"]);
}

#[test]
fn the_lineage_of_a_mapped_stage_names_its_entries() {
    let yaml = EACH
        .replace("inputs: {all: score.n}", "inputs: {all: score.n, from: pipeline.lineage}")
        .replace("cd $1; ls > $2; cat * >> $2' -- ${inputs.all}", "cp $3 $2' -- ${inputs.all}")
        .replace("${outputs.list}\n", "${outputs.list} ${inputs.from}\n");
    let study = Study::new(&yaml);
    study.run(&[]);
    let lineage: serde_json::Value = serde_json::from_str(&study.read("out/curve/list")).unwrap();
    let stages = lineage["stages"].as_array().unwrap();
    let entries: Vec<_> =
        stages.iter().filter(|s| s["stage"] == "score").map(|s| s["entry"].as_str()).collect();
    assert_eq!(entries, [Some("0"), Some("1"), Some("2")]);
    assert!(stages.iter().any(|s| s["stage"] == "gen" && s.get("entry").is_none()));
}

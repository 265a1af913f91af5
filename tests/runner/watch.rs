//! Stages that run on what another stage publishes while it still runs.

use crate::study::{Study, said, stderr, until};
use std::process::Stdio;

/// Makes a checkpoint, then another one as soon as the file `go` is there.
const TRAIN: &str = r#"echo train >> ran
for i in 1 2; do
  while [ $i = 2 ] && [ ! -e go ]; do sleep 0.02; done
  echo weights $i > "$PIPELINE_STATE/.partial"; mv "$PIPELINE_STATE/.partial" "$PIPELINE_STATE/step-$i.bin"
done
mkdir "$1"; cp "$PIPELINE_STATE"/step-* "$1"
"#;

const STUDY: &str = "name: stream
stages:
  train:
    command: sh train.sh ${outputs.checkpoints}
    outputs: {checkpoints: {stream: step-*.bin}}
  score:
    command: sh -c 'echo score $(cat $1) >> ran; wc -c < $1 > $2' -- ${inputs.one} ${outputs.n}
    each: one
    inputs: {one: train.checkpoints}
    outputs: [n]
";

fn study(yaml: &str, train: &str) -> Study {
    let study = Study::new(yaml);
    study.write("train.sh", train);
    study
}

fn scored(study: &Study, i: u32) -> bool {
    study.read("ran").contains(&format!("score weights {i}"))
        && study.exists(&format!("out/score/n/step-{i}"))
}

/// The lines of `ran`, sorted.
fn ran(study: &Study) -> Vec<String> {
    let mut lines: Vec<String> = study.read("ran").lines().map(str::to_string).collect();
    lines.sort();
    lines
}

#[test]
fn checkpoints_are_scored_as_they_come() {
    let study = study(STUDY, TRAIN);
    let mut watch = study.start(&["watch", "score"]);
    let mut run = study.start(&["run", "train"]);
    until("the first score", || scored(&study, 1));
    assert!(run.try_wait().unwrap().is_none(), "the training still goes on");
    study.write("go", "");
    assert!(run.wait().unwrap().success());
    assert!(watch.wait().unwrap().success());
    assert!(scored(&study, 2));
    // The ordinary run has nothing left to do, and nothing ran twice.
    assert!(study.run(&[]).is_empty());
    assert_eq!(ran(&study), ["score weights 1", "score weights 2", "train"]);
}

#[test]
fn a_killed_watch_harms_nobody_and_another_takes_over() {
    let study = study(STUDY, TRAIN);
    let mut run = study.start(&["run", "train"]);
    let mut watch = study.start(&["watch", "score"]);
    until("the first score", || scored(&study, 1));
    let second = study.call(&["watch", "score"]);
    assert_eq!(second.status.code(), Some(2));
    assert!(stderr(&second).contains("train.checkpoints is watched already"), "{}", stderr(&second));
    watch.kill().unwrap();
    watch.wait().unwrap();
    let mut watch = study.start(&["watch", "score"]);
    study.write("go", "");
    assert!(run.wait().unwrap().success());
    assert!(watch.wait().unwrap().success());
    assert!(study.run(&[]).is_empty());
    assert_eq!(ran(&study), ["score weights 1", "score weights 2", "train"]);
}

#[test]
fn what_the_stage_takes_away_was_scored_all_the_same() {
    let train = TRAIN.replace("mkdir \"$1\"", "rm \"$PIPELINE_STATE/step-1.bin\"; mkdir \"$1\"");
    let study = study(STUDY, &train);
    let mut run = study.start(&["run", "train"]);
    let mut watch = study.start(&["watch", "score"]);
    until("the first score", || scored(&study, 1));
    study.write("go", "");
    assert!(run.wait().unwrap().success() && watch.wait().unwrap().success());
    assert!(study.exists("out/score/n/step-2") && !study.exists("out/score/n/step-1"));
    assert!(study.run(&[]).is_empty());
}

#[test]
fn an_output_folder_can_be_the_stream() {
    let train = TRAIN
        .replace("for i", "mkdir \"$1\"; for i")
        .replace("$PIPELINE_STATE/.partial", "$1/.x")
        .replace("$PIPELINE_STATE/step", "$1/step");
    let train = train.lines().filter(|l| !l.contains("cp ")).collect::<Vec<_>>().join("\n");
    let study = study(&STUDY.replace("stream: step-*.bin", "stream: true, file: all"), &train);
    let mut run = study.start(&["run", "train"]);
    until("the first checkpoint", || study.read("ran").contains("train"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    let once = study.call(&["watch", "score", "--once"]);
    assert!(once.status.success(), "{}", said(&once));
    assert!(scored(&study, 1) && !scored(&study, 2), "{}", said(&once));
    study.write("go", "");
    assert!(run.wait().unwrap().success());
    assert_eq!(study.run(&[]), ["score weights 2"]);
    assert_eq!(study.read("out/train/checkpoints"), study.read("out/train/none"));
    assert!(study.exists("out/train/all/step-2.bin"));
}

#[test]
fn a_watch_that_is_stopped_says_so() {
    let study = study(STUDY, TRAIN);
    let watch =
        study.command(&["watch", "score"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("the watch", || study.exists(".pipeline/attempts"));
    rustix::process::kill_process(rustix::process::Pid::from_child(&watch), rustix::process::Signal::TERM)
        .unwrap();
    let output = watch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
}

#[test]
fn a_watch_needs_a_stream() {
    let study = study(&STUDY.replace("{checkpoints: {stream: step-*.bin}}", "[checkpoints]"), TRAIN);
    let output = study.call(&["watch", "score"]);
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (
            Some(2),
            "error: score reads no output that is declared with `stream`; e.g. `outputs: {checkpoints: {stream: true}}`\n"
        )
    );
}

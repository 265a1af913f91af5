//! Outputs that may be dropped: they count without their content, and come back when somebody needs it.

use crate::study::{Study, said};

const STUDY: &str = "name: temp
stages:
  big:
    command: sh -c 'echo big >> ran; mkdir $1; echo 1 > $1/a; echo 2 > $1/b' -- ${outputs.x}
    outputs: {x: {temp: true}}
  half:
    command: sh -c 'echo half >> ran; cat $1/a $1/b > $2; echo $3 >> $2' -- ${inputs.x} ${outputs.y} ${params.p}
    inputs: {x: big.x}
    params: {p: 1}
    outputs: {y: {temp: true}}
  end:
    command: sh -c 'echo end >> ran; wc -l < $1 > $2; echo $3 >> $2' -- ${inputs.y} ${outputs.z} ${params.q}
    inputs: {y: half.y}
    params: {q: 1}
    outputs: [z]
";

fn gc(study: &Study) -> String {
    let output = study.call(&["gc", "--grace", "0s"]);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

#[test]
fn a_dropped_output_counts_until_somebody_needs_it() {
    let study = Study::new(STUDY);
    assert_eq!(study.run(&[]), ["big", "half", "end"]);
    assert!(study.call(&["gc"]).status.success());
    assert!(study.exists("out/big/x/a"), "within the grace time nothing is dropped");
    gc(&study);
    assert!(!study.exists("out/big/x/a") && !study.exists("out/half/y"));
    assert_eq!(study.read("out/end/z"), "3\n1\n");
    let plan = said(&study.call(&["plan"]));
    assert_eq!(plan.matches("cached").count(), 3, "{plan}");
    assert!(study.run(&[]).is_empty());
    // The end needs what comes before it, all the way up.
    let plan = said(&study.call(&["plan", "--set", "end.q=2"]));
    assert_eq!(plan.matches("its dropped output").count(), 2, "{plan}");
    assert_eq!(study.run(&["--set", "end.q=2"]), ["big", "half", "end"]);
    assert_eq!(study.read("out/end/z"), "3\n2\n");
    assert!(study.exists("out/big/x/a"));
    // What is there is not made again.
    assert_eq!(study.run(&["--set", "end.q=3"]), ["end"]);
}

#[test]
fn only_what_is_needed_is_made_again() {
    let study = Study::new(STUDY);
    study.run(&[]);
    gc(&study);
    assert_eq!(study.run(&["--set", "half.p=2"]), ["big", "half", "end"]);
    gc(&study);
    assert_eq!(study.run(&["--force", "half"]), ["big", "half"]);
}

#[test]
fn without_the_word_a_dropped_output_is_a_miss() {
    let study = Study::new(STUDY);
    study.run(&[]);
    gc(&study);
    study.write("pipeline.yaml", &STUDY.replace("{x: {temp: true}}", "[x]"));
    assert_eq!(study.run(&[]), ["big"]);
}

#[test]
fn entries_of_a_mapped_stage_are_dropped_and_made_again_one_by_one() {
    let yaml = "name: temp
stages:
  list:
    command: sh -c 'echo list >> ran; mkdir $1; for i in 1 2 3; do echo $i > $1/$i; done' -- ${outputs.l}
    outputs: [l]
  work:
    command: sh -c 'echo work $(cat $1) >> ran; cat $1 $1 > $2' -- ${inputs.one} ${outputs.w}
    each: one
    inputs: {one: list.l}
    outputs: {w: {temp: true}}
  score:
    command: sh -c 'echo score >> ran; cat $1 > $2; echo $3 >> $2' -- ${inputs.one} ${outputs.s} ${params.p}
    each: one
    inputs: {one: work.w}
    params: {p: 1}
    outputs: [s]
";
    let study = Study::new(yaml);
    assert_eq!(study.run(&[]).len(), 7);
    gc(&study);
    assert!(study.run(&[]).is_empty());
    let mut again = study.run(&["--set", "score.p=2"]);
    again.sort();
    assert_eq!(again, ["score", "score", "score", "work 1", "work 2", "work 3"]);
}

#[test]
fn old_logs_and_records_go() {
    let study = Study::new(STUDY);
    study.run(&[]);
    let count = |name: &str| std::fs::read_dir(study.path(name)).unwrap().count();
    assert_eq!((count(".pipeline/logs"), count(".pipeline/runs")), (1, 1));
    gc(&study);
    assert_eq!((count(".pipeline/logs"), count(".pipeline/runs")), (1, 1));
    assert!(study.call(&["gc", "--logs", "0s", "--dry-run"]).status.success());
    assert_eq!((count(".pipeline/logs"), count(".pipeline/runs")), (1, 1));
    assert!(study.call(&["gc", "--logs", "0s"]).status.success());
    assert_eq!((count(".pipeline/logs"), count(".pipeline/runs")), (0, 0));
    assert!(study.run(&[]).is_empty());
}

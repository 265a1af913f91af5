//! What a run is expected to cost: by what the study says, by earlier results, or unknown.

use crate::study::{Study, said, stderr};
use serde_json::{Value, json};

const LEARN: &str = r#"name: learn
stages:
  data:
    command: sh -c 'echo data > $1' -- ${outputs.d}
    outputs: [d]
  learn:
    command: sh -c 'sleep 0.3; echo $1 $2 $3 > $4' -- ${params.steps} ${params.size} ${params.seed} ${outputs.m}
    inputs: {d: data.d}
    params: {steps: 400000, size: xl, seed: 0}
    outputs: [m]
    resources: {cpus: 1}
    cost: {gpu-seconds-per: {steps: 0.76}, when: {size: xl}, disk: 2GiB}
  draw:
    command: sh -c 'echo ${params.shard} > ${outputs.p}'
    shards: 10
    outputs: [p]
    cost: {cpu-hours: 3, disk: 1GiB}
"#;

fn cost(study: &Study, words: &[&str]) -> Value {
    let output = study.call(&[&["plan", "--cost", "--json"], words].concat());
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn of<'a>(cost: &'a Value, stage: &str) -> &'a Value {
    let stages = cost["stages"].as_array().unwrap();
    stages.iter().find(|of| of["stage"] == stage).unwrap_or_else(|| panic!("{stage} in {cost}"))
}

fn near(value: &Value, expected: f64) -> bool {
    value.as_f64().is_some_and(|value| (value / expected - 1.0).abs() < 1e-9)
}

#[test]
fn what_the_study_says_counts_until_there_are_results() {
    let study = Study::new(&LEARN.replace("{cpus: 1}", "{cpus: 8, gpus: 4}"));
    let first = cost(&study, &[]);
    let learn = of(&first, "learn");
    assert_eq!(learn["basis"], json!({"from": "study"}));
    // 400,000 steps of 0.76 s are 84.4 hours of one GPU, and on four a fourth of that.
    assert!(near(&learn["gpu-hours"], 304_000.0 / 3600.0) && near(&learn["seconds"], 76_000.0), "{learn}");
    assert!(near(&learn["cpu-hours"], 8.0 * 76_000.0 / 3600.0), "{learn}");
    assert_eq!(learn["disk"], 2_u64 << 30);
    let draw = of(&first, "draw");
    assert!(near(&draw["cpu-hours"], 30.0) && draw["gpu-hours"] == 0.0 && draw["parts"] == 10, "{draw}");
    let total = &first["total"];
    assert!(near(&total["gpu-hours"], 304_000.0 / 3600.0) && near(&total["seconds"], 76_000.0), "{total}");
    assert_eq!((&total["disk"], &total["unknown"]), (&json!(12_u64 << 30), &json!(["data"])));
    // Another size is another matter.
    let other = cost(&study, &["--set", "learn.size=s"]);
    assert_eq!(of(&other, "learn")["basis"], json!({"from": "nothing"}));
    assert_eq!(of(&other, "learn")["gpu-hours"], Value::Null);
    assert_eq!(other["total"]["unknown"], json!(["data", "learn"]));
    let text = said(&study.call(&["plan", "--cost"]));
    for words in [
        "84.4 GPU hours",
        "3.5 days on 1 GPU, 21 h 6 min on 4 GPUs, 10 h 33 min on 8 GPUs",
        "10 × 3 h 0 min",
        "unknown: data",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!study.exists("out") && study.run(&["data"]).is_empty());
}

#[test]
fn results_count_more_than_what_the_study_says() {
    let study = Study::new(LEARN);
    study.run(&["--set", "learn.steps=1000"]);
    let done = cost(&study, &["--set", "learn.steps=1000"]);
    assert_eq!((&done["stages"], &done["total"]["seconds"]), (&json!([]), &json!(0.0)));
    assert!(
        said(&study.call(&["plan", "--cost", "--set", "learn.steps=1000"])).contains("nothing would run")
    );

    let more = cost(&study, &["--set", "learn.steps=4000", "--set", "learn.seed=7"]);
    let learn = of(&more, "learn");
    assert_eq!(
        (&learn["basis"]["from"], &learn["basis"]["scaled"]),
        (&json!("runs"), &json!(4.0)),
        "{learn}"
    );
    let seconds = learn["seconds"].as_f64().unwrap();
    // It sleeps for 0.3 s.
    assert!(seconds >= 1.2, "{learn}");
    assert!(near(&learn["cpu-hours"], seconds / 3600.0), "{learn}");
    assert_eq!(learn["disk"], "1000 xl 0\n".len(), "{learn}");
    assert_eq!(more["total"]["unknown"], json!([]));
    let text = said(&study.call(&["plan", "--cost", "--set", "learn.steps=4000"]));
    assert!(text.contains("1 result like it, that of ") && text.contains(", × 4"), "{text}");
}

#[test]
fn cost_is_in_no_key_and_its_mistakes_are_told() {
    let study = Study::new(LEARN);
    study.run(&["--set", "learn.steps=1"]);
    study.write(
        "pipeline.yaml",
        &LEARN.replace("steps: 0.76", "steps: 900").replace("cpu-hours: 3", "cpu-hours: 4"),
    );
    let plan = said(&study.call(&["plan", "--set", "learn.steps=1"]));
    assert!(!plan.contains("to run"), "{plan}");
    for (change, words) in [
        ("{gpu-seconds-per: {step: 1}}", "stage learn has no parameter `step`; did you mean `steps`?"),
        ("{gpu-seconds-per: {steps: -1}}", "`steps`: seconds are a number from 0"),
        ("{gpu-hours: .nan}", "error: pipeline.yaml:"),
        ("{gpu-hour: 1}", "unknown key `gpu-hour`; did you mean `gpu-hours`?"),
        ("{when: {sizes: xl}}", "stage learn has no parameter `sizes`"),
    ] {
        let from = "{gpu-seconds-per: {steps: 0.76}, when: {size: xl}, disk: 2GiB}";
        study.write("pipeline.yaml", &LEARN.replace(from, change));
        let output = study.call(&["plan"]);
        assert_eq!(output.status.code(), Some(2), "{change}: {}", said(&output));
        assert!(stderr(&output).contains(words), "{change}: {}", stderr(&output));
    }
}

//! Exit codes, signals, environment, and processes that outlive what they should not.

use crate::study::{Study, alive, said, stderr, until};
use std::process::Command;

/// A study of one stage whose command is this script, with one output.
fn one(script: &str, more: &str) -> Study {
    let study = Study::new(&format!(
        "name: one\nstages:\n  a:\n    command: sh script.sh ${{outputs.x}}\n    outputs: [x]\n{more}"
    ));
    study.write("script.sh", script);
    study
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_failure_shows_the_log_and_keeps_nothing() {
    let study = one("echo partial > $1; echo doing; echo broken >&2; exit 3", "");
    let failed = study.call(&["run"]);
    assert_eq!(failed.status.code(), Some(1));
    let text = stderr(&failed);
    assert!(text.contains("a: failed with exit code 3\n  | doing\n  | broken\n  the whole log: "), "{text}");
    assert!(text.ends_with("error: stage a failed\n"), "{text}");
    assert!(!study.exists("out/a/x"));
    assert_eq!(String::from_utf8(study.call(&["log", "a"]).stdout).unwrap(), "doing\nbroken\n");
}

#[test]
fn a_missing_output_is_a_failure() {
    let study = one("true", "");
    let failed = study.call(&["run"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("did not write its output `x`"), "{}", stderr(&failed));
}

#[test]
fn try_again_is_tried_again_and_then_told() {
    let script = "echo try >> tries; [ $(wc -l < tries) -ge 3 ] || exit 75; echo ok > $1";
    let study = one(script, "    retries: 2\n");
    assert!(study.call(&["run"]).status.success());
    assert_eq!(study.read("tries").lines().count(), 3);
    let study = one(script, "    retries: 1\n");
    assert_eq!(study.call(&["run"]).status.code(), Some(75));
}

#[test]
fn keep_going_runs_what_does_not_need_the_failure() {
    let yaml = "name: two
stages:
  bad:
    command: sh -c 'exit 1' -- ${outputs.x}
    outputs: [x]
  after:
    command: cp ${inputs.x} ${outputs.y}
    inputs: {x: bad.x}
    outputs: [y]
  good:
    command: sh -c 'sleep 0.2; echo > $1' -- ${outputs.x}
    outputs: [x]
  last:
    command: cp ${inputs.x} ${outputs.y}
    inputs: {x: good.x}
    outputs: [y]
";
    let study = Study::new(yaml);
    let stopped = study.call(&["run", "--jobs", "1"]);
    assert_eq!(stopped.status.code(), Some(1));
    assert!(!study.exists("out/last/y"));
    let going = study.call(&["run", "--keep-going"]);
    assert_eq!(going.status.code(), Some(1));
    assert!(study.exists("out/last/y"), "{}", said(&going));
    let text = String::from_utf8(going.stdout).unwrap();
    assert!(text.contains("bad    FAILED") && text.contains("after  skipped"), "{text}");
}

#[test]
fn independent_stages_run_at_the_same_time() {
    // Each waits for the other to have started.
    let stage = |me: &str, other: &str| {
        format!(
            "  {me}:\n    command: sh -c 'touch {me}.up; while [ ! -e {other}.up ]; do sleep 0.01; done; echo > $1' -- ${{outputs.x}}\n    outputs: [x]\n    timeout: 30s\n"
        )
    };
    let yaml = format!("name: pair\nstages:\n{}{}", stage("a", "b"), stage("b", "a"));
    let study = Study::new(&yaml);
    if std::thread::available_parallelism().unwrap().get() >= 2 {
        assert!(study.call(&["run"]).status.success());
    }
}

#[test]
fn a_stage_that_takes_too_long_is_stopped() {
    let study = one("sleep 60; echo > $1", "    timeout: 0.3s\n");
    let failed = study.call(&["run"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("stopped after its time limit"), "{}", stderr(&failed));
}

#[test]
fn the_environment_is_what_is_declared() {
    let study = one("env | sort > $1", "    env: {DECLARED: yes}\n    pass-env: [SECRET]\n");
    let run = |name: &str| study.command(&["run"]).env("SECRET", name).env("OTHER", "1").output().unwrap();
    assert!(run("s3").status.success());
    let seen = study.read("out/a/x");
    assert!(
        seen.contains("DECLARED=yes\n") && seen.contains("SECRET=s3\n") && !seen.contains("OTHER="),
        "{seen}"
    );
    // A secret is not in the key: another one changes nothing.
    run("s4");
    assert!(study.read("out/a/x").contains("SECRET=s3\n"));
}

#[test]
fn a_first_signal_asks_and_the_state_is_kept() {
    let script = "trap 'echo saved > $PIPELINE_STATE/s; exit 75' TERM
[ -e $PIPELINE_STATE/s ] && { echo resumed > $1; exit 0; }
touch up; while true; do sleep 0.05; done";
    let study = one(script, "");
    let mut runner = study.start(&["run"]);
    until("the stage's start", || study.exists("up"));
    signal(runner.id(), "-INT");
    assert_eq!(runner.wait().unwrap().code(), Some(130));
    study.run(&[]);
    assert_eq!(study.read("out/a/x"), "resumed\n");
    let left = std::fs::read_dir(study.path(".pipeline/state")).unwrap().count();
    assert_eq!(left, 0, "state is removed after success");
}

#[test]
fn a_second_signal_kills() {
    let study = one("trap '' TERM; touch up; sleep 1000 & echo $! > child; wait; wait", "");
    let mut runner = study.start(&["run"]);
    until("the stage's start", || !study.read("child").is_empty());
    signal(runner.id(), "-TERM");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(runner.try_wait().unwrap().is_none());
    signal(runner.id(), "-TERM");
    assert_eq!(runner.wait().unwrap().code(), Some(130));
    until("the child's end", || !alive(&study.read("child")));
}

#[test]
fn killing_the_runner_kills_the_stage_and_all_its_descendants() {
    // A child in a session of its own, which no process group reaches.
    let script =
        "setsid sh -c 'echo $$ > far; sleep 1000' & sleep 1000 & echo $! > near; echo $$ > self; wait";
    let study = one(script, "");
    let mut runner = study.start(&["run"]);
    until("the stage's start", || ["far", "near", "self"].iter().all(|f| !study.read(f).is_empty()));
    signal(runner.id(), "-KILL");
    runner.wait().unwrap();
    for name in ["self", "near", "far"] {
        until(name, || !alive(&study.read(name)));
    }
    study.write("script.sh", "echo ok > $1");
    study.run(&[]);
    assert_eq!(study.read("out/a/x"), "ok\n");
}

#[test]
fn what_a_stage_leaves_behind_ends_with_it() {
    let study = one(
        "setsid sh -c 'echo $$ > far; sleep 1000' & while [ ! -s far ]; do sleep 0.01; done; echo > $1",
        "",
    );
    study.run(&[]);
    assert!(!alive(&study.read("far")));
}

#[test]
fn progress_and_messages_reach_the_screen() {
    let script = r#"echo '{"event": "message", "text": "half way"}' >> $PIPELINE_EVENTS; echo > $1"#;
    let study = one(script, "");
    let output = study.call(&["run"]);
    assert!(stderr(&output).contains("a: half way\n"), "{}", stderr(&output));
}

#[test]
fn json_for_programs() {
    let study = one("echo hello > $1", "");
    let report: serde_json::Value = serde_json::from_slice(&study.call(&["run", "--json"]).stdout).unwrap();
    assert_eq!(report["stages"][0]["fate"], "ran");
    assert_eq!(report["stages"][0]["outputs"]["x"]["bytes"], 6);
}

#[test]
fn too_many_gpus_are_refused() {
    let study = one("echo > $1", "    resources: {gpus: 2}\n");
    let output = study.command(&["run"]).env("CUDA_VISIBLE_DEVICES", "3").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output), "error: pipeline.yaml:3: stage a asks for 2 GPUs; this machine has 1\n");
    study.write("pipeline.yaml", &study.read("pipeline.yaml").replace("gpus: 2", "gpus: 1"));
    study.write("script.sh", "echo $CUDA_VISIBLE_DEVICES > $1");
    let output = study.command(&["run"]).env("CUDA_VISIBLE_DEVICES", "3,5").output().unwrap();
    assert!(output.status.success());
    assert_eq!(study.read("out/a/x"), "3\n");
}

#[test]
fn what_outlives_its_supervisor_writes_into_no_later_attempt() {
    // The stage starts a worker that survives it and writes on by path, making its folder again where it is gone.
    let study = Study::new(
        "name: orphan\nstages:\n  a:\n    command: sh stage.sh ${outputs.o}\n    outputs: [o]\n    retries: 1\n",
    );
    study.write(
        "worker.sh",
        "i=0; while [ $i -lt 300 ] && [ ! -e over ]; do i=$((i+1)); mkdir -p $1 && echo $2 >> $1/lines; sleep 0.02; done; touch ended.$2",
    );
    study.write(
        "stage.sh",
        "if [ -e first ]; then echo second > second; mkdir -p $1; echo two >> $1/lines; sleep 1; exit 0; fi
echo $PPID > first; setsid sh worker.sh $1 one & while [ ! -s $1/lines ]; do sleep 0.01; done; sleep 60",
    );
    let mut runner = study.start(&["run"]);
    until("the first attempt", || {
        !study.read("first").trim().is_empty() && study.exists(".pipeline/attempts")
    });
    let _ = Command::new("kill").args(["-KILL", study.read("first").trim()]).status();
    assert!(runner.wait().unwrap().success());
    assert_eq!(study.read("out/a/o/lines"), "two\n");
    study.write("over", "");
    until("the worker's end", || study.exists("ended.one"));
    assert_eq!(study.read("out/a/o/lines"), "two\n");
    assert!(study.run(&[]).is_empty());
}

//! The workflow for other people's studies, `docs/ci/study.yml`: what its steps run, on a study that has a miniature.

use crate::study::Study;
use std::path::Path;
use std::process::Command;

/// The scripts of the steps by the steps' names.
fn steps() -> Vec<(String, String)> {
    let text = include_str!("../../docs/ci/study.yml");
    let mut steps: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("      - name: ") {
            steps.push((name.into(), String::new()));
        }
        inside = line == "        run: |" || inside && line.starts_with("          ");
        if let (true, Some(script), Some((_, all))) =
            (inside, line.strip_prefix("          "), steps.last_mut())
        {
            all.push_str(script);
            all.push('\n');
        }
    }
    steps.retain(|(_, script)| !script.is_empty());
    steps
}

const STUDY: &str = "name: mine
stages:
  train:
    run: ./gen
    inputs: {}
    params: {size: 90}
    outputs: [files]
  evaluate:
    command: sh -c 'cat $1/* > $2' -- ${inputs.files} ${outputs.all}
    inputs: {files: train.files}
    outputs: [all]
profiles:
  miniature:
    stages:
      train: {params: {size: 2}}
";

/// Runs a step as a worker of GitHub's does.
fn step(study: &Study, script: &str) -> bool {
    let runner = Path::new(env!("CARGO_BIN_EXE_pipeline")).parent().unwrap();
    let path = format!("{}:{}", runner.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-e", "-o", "pipefail", "-c", script]).current_dir(study.dir.path()).env("PATH", path);
    bash.env("RUNNER_TEMP", study.path("temp")).output().unwrap().status.success()
}

#[test]
fn its_steps_pass_on_a_study_with_a_miniature_and_fail_on_a_broken_one() {
    let study = Study::new(STUDY);
    std::fs::create_dir(study.path("temp")).unwrap();
    let steps = steps();
    let names: Vec<&str> = steps.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[0], "The runner", "the step that fetches comes first");
    assert_eq!(steps.len(), 5, "{names:?}");
    for (name, script) in &steps[1..] {
        assert!(script.contains("pipeline "), "{name}: {script}");
        assert!(step(&study, script), "{name}");
    }
    assert_eq!(study.read("out/evaluate/all"), "file 0\nfile 1\n");

    // Each of the first three notices its own fault.
    study.write("pipeline.yaml", &STUDY.replace("size: 90", "size: 900"));
    assert!(!step(&study, &steps[1].1), "a parameter of the real study out of its range");
    study.write("pipeline.yaml", &STUDY.replace("cat $1/*", "false $1/*"));
    assert!(step(&study, &steps[1].1));
    assert!(!step(&study, &steps[2].1), "a stage that fails");
    assert!(!step(&study, &steps[3].1), "a stage that is not done");
    study.write("pipeline.yaml", &STUDY.replace("cat $1/*", "(date +%s.%N; cat $1/*)"));
    assert!(step(&study, &steps[2].1));
    assert!(!step(&study, &steps[3].1), "a stage that reads the clock");
}

#[test]
fn the_fetched_archive_is_held_to_its_sum_before_anything_of_it_is_used() {
    let (_, script) = &steps()[0];
    let place = |word: &str| script.find(word).unwrap_or_else(|| panic!("no {word}"));
    assert!(place("curl -sSf") < place("sha256sum --check"));
    assert!(place("sha256sum --check") < place("tar -xz"));
}

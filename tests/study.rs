//! The digits study as a user runs it, end to end. Takes minutes: `ci/study` runs it, after `ci/build`.

#![expect(clippy::unwrap_used, reason = "a test that cannot run the study has failed")]

#[path = "runner/slurm/cluster.rs"]
mod cluster;
#[path = "runner/daemons.rs"]
mod daemons;
#[path = "study/processes.rs"]
mod processes;

use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STAGES: [&str; 7] = ["download", "encode", "train", "sample", "reference", "evaluate", "report"];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The digits study in a folder of its own, with the programs that `ci/build` made.
struct Study {
    root: PathBuf,
}

impl Study {
    fn new(root: PathBuf) -> Self {
        std::fs::create_dir_all(&root).unwrap();
        symlink(repository().join("data"), root.join("data")).unwrap();
        let text = std::fs::read_to_string(repository().join("pipeline.yaml")).unwrap();
        // The programs are built already; everything else is the study as it is shipped.
        let (head, rest) = text.split_once("\nbuild:").unwrap();
        let (_, stages) = rest.split_once("\nstages:").unwrap();
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or(repository().join("target"), PathBuf::from);
        let programs = target.join("release");
        let build = format!("build: {{command: 'true', sources: [data], programs: {}}}", programs.display());
        std::fs::write(root.join("pipeline.yaml"), format!("{head}\n{build}\nstages:{stages}")).unwrap();
        Self { root }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// Runs the pipeline and gives its JSON; what the run says goes to the test's own output.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).arg("--json").stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "pipeline {arguments:?}: {}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run(self.json(&[&["run"], arguments].concat()))
    }

    fn output(&self, path: &str) -> PathBuf {
        self.root.join("out").join(path)
    }

    fn scores(&self) -> BTreeMap<String, Value> {
        serde_json::from_slice(&std::fs::read(self.output("evaluate/scores")).unwrap()).unwrap()
    }

    fn fid(&self) -> f64 {
        self.scores()["fid"].as_f64().unwrap()
    }
}

/// The JSON of one `pipeline run`.
struct Run(Value);

impl Run {
    fn stages(&self) -> &Vec<Value> {
        self.0["stages"].as_array().unwrap()
    }

    /// The stages whose programs ran.
    fn ran(&self) -> Vec<&str> {
        let ran = self.stages().iter().filter(|row| row["fate"] == "ran");
        ran.map(|row| row["stage"].as_str().unwrap()).collect()
    }

    fn digest(&self, stage: &str, output: &str) -> String {
        let row = self.stages().iter().find(|row| row["stage"] == stage).unwrap();
        row["outputs"][output]["digest"].as_str().unwrap().to_string()
    }
}

fn sorted(mut names: Vec<&str>) -> Vec<&str> {
    names.sort_unstable();
    names
}

/// Share of the samples that the judge reads as the label they were asked for.
fn agreement(samples: &Path) -> f64 {
    let python = std::env::var_os("JUDGE_PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(python)
        .arg(repository().join("ci/judge-digits"))
        .arg(samples.join("samples.npz"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "ci/judge-digits failed; it wants numpy and scikit-learn");
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("judge: {verdict}");
    assert_eq!(verdict["samples"], 1000);
    verdict["agreement"].as_f64().unwrap()
}

#[test]
#[ignore = "takes minutes; ci/study runs it"]
fn the_whole_study() {
    let folder = tempfile::tempdir().unwrap();
    let study = Study::new(folder.path().join("digits"));

    let first = study.run(&[]);
    assert_eq!(sorted(first.ran()), sorted(STAGES.to_vec()));
    let html = std::fs::read_to_string(study.output("report/report/report.html")).unwrap();
    assert!(!html.contains("src=\"http") && !html.contains("<link"), "the report needs the network");
    let fid = study.fid();

    // A second run runs nothing.
    assert!(study.run(&[]).ran().is_empty());

    // What a program would refuse is found without running anything.
    let refused = study.command(&["check", "--set", "encode.image-size=30"]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("encode.image-size=30") && said.contains("multiple of 4"), "{said}");

    // A parameter of the evaluation reruns the evaluation and the report; put back, the old result stands again.
    let scores = study.scores();
    let other = study.run(&["--set", "evaluate.distances=exact"]);
    assert_eq!(sorted(other.ran()), ["evaluate", "report"]);
    assert_ne!(study.scores(), scores);
    assert!(study.run(&[]).ran().is_empty());
    assert_eq!(study.scores(), scores);

    // Somebody's checkpoints in the place of ours: only what is downstream runs.
    let earlier = folder.path().join("earlier");
    std::fs::create_dir(&earlier).unwrap();
    let checkpoints = std::fs::read_dir(study.output("train/checkpoints")).unwrap();
    let mut checkpoints: Vec<PathBuf> = checkpoints.map(|entry| entry.unwrap().path()).collect();
    checkpoints.sort();
    assert!(checkpoints.len() > 1, "the study keeps more than its last checkpoint");
    std::fs::copy(&checkpoints[0], earlier.join(checkpoints[0].file_name().unwrap())).unwrap();
    let stand_in = format!("train.checkpoints={}", earlier.display());
    let replaced = study.run(&["--with", &stand_in, "--set", "sample.images=100"]);
    assert_eq!(sorted(replaced.ran()), ["evaluate", "report", "sample"]);

    // A network that has learnt nothing is more than ten times worse.
    study.run(&["evaluate", "--set", "train.iterations=1"]);
    let untrained = study.fid();
    println!("FID {fid:.3}, untrained {untrained:.3}");
    assert!(fid * 10.0 < untrained, "FID {fid} against {untrained} untrained");

    study.run(&[]);
    let agreement = agreement(&study.output("sample/samples"));
    assert!(agreement >= 0.85, "the judge agrees with {agreement} of the labels");
}

fn checkpoint_in(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name.starts_with("step-") && name.ends_with(".safetensors")) || checkpoint_in(&entry.path())
    })
}

fn wait_for_checkpoint(study: &Study, child: &mut Child) {
    let started = Instant::now();
    while !checkpoint_in(&study.root.join(".pipeline/state")) {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first checkpoint");
        assert!(started.elapsed() < Duration::from_secs(300), "no checkpoint appeared");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "takes a minute; ci/study runs it"]
fn a_killed_training_ends_with_the_same_bits() {
    const TRAINING: [&str; 5] =
        ["train", "--set", "train.iterations=120", "--set", "train.checkpoint-every=40"];
    let folder = tempfile::tempdir().unwrap();

    let calm = Study::new(folder.path().join("calm"));
    let undisturbed = calm.run(&TRAINING).digest("train", "checkpoints");

    let disturbed = Study::new(folder.path().join("disturbed"));
    let mut child = disturbed.command(&["run"]).args(TRAINING).stdout(Stdio::null()).spawn().unwrap();
    wait_for_checkpoint(&disturbed, &mut child);
    // SIGKILL, which nothing can catch; the stage dies with its runner.
    child.kill().unwrap();
    child.wait().unwrap();

    let resumed = disturbed.run(&TRAINING);
    assert_eq!(resumed.ran(), ["train"]);
    assert_eq!(resumed.digest("train", "checkpoints"), undisturbed);
}

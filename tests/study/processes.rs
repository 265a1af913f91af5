//! The digits study, smaller, with every stage as two processes: on this machine, and on two nodes of a Slurm.

use super::cluster::Cluster;
use super::{Run, Study};
use serde_json::Value;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Steps of a training, as `SMALL` has them: enough for one that is disturbed twice.
const STEPS: usize = 200;
const SMALL: [&str; 6] = [
    "train.iterations=200",
    "train.batch-size=32",
    "train.checkpoint-every=20",
    "train.log-every=20",
    "sample.images=130",
    "sample.steps=5",
];
/// Stages that several processes share.
const SHARED: [&str; 5] = ["encode", "train", "sample", "reference", "evaluate"];

/// The study in a folder; each process has one core, so that two fit on a small machine, and jobs go to two nodes.
fn study(root: &Path) -> Study {
    let study = Study::new(root.into());
    let file = root.join("pipeline.yaml");
    let text = fs::read_to_string(&file).unwrap().replace("resources: {cpus: 2}", "resources: {cpus: 1}");
    fs::write(file, format!("{text}\nslurm: {{interval: 1s, partition: wide}}\n")).unwrap();
    study
}

/// Words of `run` for a target in so many processes, with these outputs in the place of stages'.
fn words(target: &str, processes: Option<&str>, given: &[(&str, &Path)]) -> Vec<String> {
    let mut words = vec![target.to_string()];
    let processes = processes.into_iter().flat_map(|n| SHARED.map(|stage| format!("{stage}.processes={n}")));
    for set in SMALL.map(String::from).into_iter().chain(processes) {
        words.extend(["--set".to_string(), set]);
    }
    for (output, path) in given {
        words.extend(["--with".to_string(), format!("{output}={}", path.display())]);
    }
    words
}

fn run(study: &Study, cluster: Option<&Cluster>, words: &[String]) -> Run {
    let mut command = study.command(&["run"]);
    command.args(words).arg("--json").stderr(Stdio::inherit());
    if let Some(cluster) = cluster {
        command.args(["--engine", "slurm"]).env("SLURM_CONF", cluster.conf());
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", output.status);
    Run(serde_json::from_slice(&output.stdout).unwrap())
}

fn last_loss(study: &Study) -> f64 {
    let log = fs::read_to_string(study.output("train/log")).unwrap();
    let line: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    line["loss"].as_f64().unwrap()
}

const CHAIN: [(&str, &str); 4] =
    [("encode", "latents"), ("train", "checkpoints"), ("sample", "samples"), ("evaluate", "scores")];

#[test]
#[ignore = "takes a minute; ci/study runs it"]
fn every_stage_as_two_processes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let alone = study(&at("alone"));
    let one = run(&alone, None, &words("evaluate", None, &[]));
    let pair = study(&at("pair"));
    let two = run(&pair, None, &words("evaluate", Some("2"), &[]));
    for (stage, output) in [("encode", "latents"), ("reference", "statistics")] {
        assert_eq!(two.digest(stage, output), one.digest(stage, output), "{stage}");
    }
    // Sums of gradients in another order.
    let (lost, wanted) = (last_loss(&pair), last_loss(&alone));
    assert!((lost - wanted).abs() < 0.01 * wanted, "{lost} and {wanted}");
    let checkpoints = alone.output("train/checkpoints");
    let given = words("evaluate", Some("2"), &[("train.checkpoints", &checkpoints)]);
    let same = run(&pair, None, &given);
    for (stage, output) in [("sample", "samples"), ("evaluate", "scores")] {
        assert_eq!(same.digest(stage, output), one.digest(stage, output), "{stage}");
    }

    let Some(cluster) = Cluster::up() else { return };
    let far = study(&at("far"));
    let statistics = pair.output("reference/statistics");
    let nodes =
        run(&far, Some(&cluster), &words("evaluate", Some("2x1"), &[("reference.statistics", &statistics)]));
    for (stage, output) in CHAIN {
        assert_eq!(nodes.digest(stage, output), two.digest(stage, output), "{stage} on two nodes");
    }
    disturbed(&cluster, &study(&at("disturbed")), &pair.output("encode/latents"), &two);
    assert_eq!(cluster.jobs(), 0);
}

/// A training on two nodes that has to make room for another job, and then is killed with its runner.
fn disturbed(cluster: &Cluster, study: &Study, latents: &Path, undisturbed: &Run) {
    let words = words("train", Some("2x1"), &[("encode.latents", latents)]);
    let log = study.root.join("runner.log");
    let file = fs::File::create(&log).unwrap();
    let mut runner = study.command(&["run", "--engine", "slurm"]);
    runner.args(&words).env("SLURM_CONF", cluster.conf());
    let mut runner = runner.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let state = study.root.join(".pipeline/state");
    let mut wait = |what: &str, so: &dyn Fn() -> bool| wait(&mut runner, &log, what, so);

    wait("a checkpoint", &|| newest(&state) > 0);
    let rival = "sbatch --partition=first --nodes=2 --exclusive --output=/dev/null --job-name=rival";
    let mut rival: Vec<&str> = rival.split(' ').collect();
    rival.push("--wrap=sleep 1");
    let rival = Command::new(rival[0]).args(&rival[1..]).env("SLURM_CONF", cluster.conf()).output();
    assert!(rival.unwrap().status.success());
    wait("the next start", &|| fs::read_to_string(&log).unwrap().contains("train: runs again on "));
    let before = newest(&state);
    assert!(before < STEPS, "too quick for this test");
    wait("another checkpoint", &|| newest(&state) > before);
    runner.kill().unwrap();
    assert_eq!(runner.wait().unwrap().signal(), Some(9));
    cluster.call("scancel --signal=KILL --user=root");
    cluster.call("scancel --user=root");
    let gone = Instant::now();
    while cluster.jobs() > 0 {
        assert!(gone.elapsed() < Duration::from_secs(60), "the job stays");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(newest(&state) < STEPS, "too quick for this test");

    // That the job was ended by somebody else is a failure of this run; the next one goes on.
    let mut again = study.command(&["run", "--engine", "slurm"]);
    let first = again.args(&words).env("SLURM_CONF", cluster.conf()).status().unwrap();
    assert!(matches!(first.code(), Some(0 | 1)), "{first}");
    let resumed = run(study, Some(cluster), &words);
    assert_eq!(resumed.digest("train", "checkpoints"), undisturbed.digest("train", "checkpoints"));
}

/// Waits until something is so while the runner lives.
fn wait(runner: &mut Child, log: &Path, what: &str, so: &dyn Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        let text = || fs::read_to_string(log).unwrap();
        assert_eq!(runner.try_wait().unwrap(), None, "ended before {what}: {}", text());
        assert!(start.elapsed() < Duration::from_secs(120), "{what} did not happen: {}", text());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The step of the newest checkpoint in a folder and those below; 0 for none.
fn newest(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let step = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("step-").and_then(|name| name.strip_suffix(".safetensors"));
        number.map_or_else(|| newest(&entry.path()), |number| number.parse().unwrap())
    };
    entries.map(step).max().unwrap_or(0)
}

//! Jobs of a cluster as the page shows them.

use super::Cluster;
use crate::site::Site;
use crate::study::until;
use crate::ui::{Served, step};
use serde_json::Value;

/// One job runs until it is told to end, and says more when it is told to, also in its log of numbers; the other is held in
/// the queue.
const STAGES: &str = r#"  runs:
    command: sh -c 'echo begun; printf "{\"step\":1,\"loss\":4}\n{\"step\":2,\"loss\":3}\n{\"step\":3,\"lo" > $1; while [ ! -e more ]; do sleep 0.05; done; printf "ss\":2}\n" >> $1; echo more; while [ ! -e go ]; do sleep 0.05; done' -- ${outputs.x}
    outputs: [x]
  waits:
    command: sh -c 'echo > $1' -- ${outputs.y}
    outputs: [y]
    slurm: {options: [--hold]}
  later:
    command: cp ${inputs.y} ${outputs.z}
    inputs: {y: waits.y}
    outputs: [z]
"#;

pub fn jobs_are_seen_in_the_queue_and_as_they_run(cluster: &Cluster) {
    let study = cluster.study(STAGES);
    let served = Served::start(&study);
    let is =
        |id: &str| step(&served.value("study"), id)["state"]["is"].as_str().unwrap_or_default().to_string();
    until("all is looked up", || is("runs") == "to-run" && is("later") == "waiting");
    let mut runner = cluster.start(&study);
    until("one runs and one is queued", || is("runs") == "running" && is("waits") == "queued");
    assert_eq!(is("later"), "waiting");
    // Its log is there as it grows, though the job runs elsewhere.
    let log = || -> Value {
        let logs = served.value("step/runs")["logs"].clone();
        let name = logs.as_array().and_then(|logs| logs.iter().find(|log| log["kind"] == "log").cloned());
        name.map_or(Value::Null, |log| served.value(log["name"].as_str().unwrap())["text"].clone())
    };
    until("its log", || log() == "begun\n");
    let losses = || served.value("row/v~")["series"][0]["y"].clone();
    until("its losses, without the half line", || losses() == serde_json::json!([4.0, 3.0]));
    study.write("more", "");
    until("the log that grew", || log() == "begun\nmore\n");
    until("the losses that grew", || losses() == serde_json::json!([4.0, 3.0, 2.0]));
    study.write("go", "");
    until("the one is done", || matches!(is("runs").as_str(), "ran" | "cached"));
    assert_eq!(is("waits"), "queued");
    let said = study.read("runner.log");
    let job =
        said.lines().find_map(|line| line.split_once("waits: job ")?.1.split(' ').next().map(str::to_string));
    let job = job.or_else(|| {
        let line = said.lines().find(|line| line.contains("waits") && line.contains("submitted as job "))?;
        line.split_once("submitted as job ").map(|(_, id)| id.trim().to_string())
    });
    cluster.call(&format!("scontrol release {}", job.unwrap_or_else(|| panic!("{said}"))));
    assert!(runner.wait().unwrap().success(), "{}", study.read("runner.log"));
    until("all are done", || ["runs", "waits", "later"].iter().all(|id| is(id) == "cached"));
}

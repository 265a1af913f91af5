//! Stages as several processes of a job, on one node and on two.

use super::Cluster;
use crate::ranks::RENDEZVOUS;
use crate::site::{Site, interrupt, one};
use crate::study::{Study, alive, said, stderr, until};
use std::process::Command;

/// On two nodes of their own partition, two processes on each.
const TWO: &str = "    processes: {nodes: 2, per-node: 2}\n    slurm: {partition: wide}\n";

pub fn ranks_of_one_node_need_no_step(cluster: &Cluster) {
    let script = "mkdir -p $1; echo $RANK $WORLD_SIZE $SLURM_PROCID $SLURM_NTASKS $SLURM_STEP_ID $OMP_NUM_THREADS > $1/$RANK
echo $CUDA_VISIBLE_DEVICES | tr , '\\n' | wc -l >> $1/$RANK; echo $SLURM_CPUS_PER_TASK $SLURM_JOB_NUM_NODES >> $1/$RANK";
    let study = one(cluster, script, "    processes: 2\n    resources: {cpus: 2, gpus: 1, memory: 100MiB}\n");
    let run = cluster.run(&study, &[]);
    assert!(run.status.success(), "{}", said(&run));
    for rank in 0..2 {
        let seen = study.read(&format!("out/a/x/{rank}"));
        assert_eq!(seen, format!("{rank} 2 {rank} 2 2\n{}\n2 1\n", gpus(cluster)));
    }
}

/// How many GPUs two processes with one each see on a node here: none where they are only counted.
fn gpus(cluster: &Cluster) -> usize {
    let counted = std::fs::read_to_string(cluster.0.folder.path().join("gres.conf")).unwrap();
    if counted.contains("CountOnly") { 1 } else { 2 }
}

pub fn ranks_of_two_nodes_meet(cluster: &Cluster) {
    let study = cluster.study(&format!(
        "  a:\n    command: python3 sum.py ${{outputs.x}}\n    outputs: [x]\n{TWO}    resources: {{cpus: 1}}\n"
    ));
    study.write("sum.py", RENDEZVOUS);
    let run = cluster.run(&study, &[]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!(study.read("out/a/x"), "0 on n2\n1 on n2\n2 on n3\n3 on n3\n");
    let log = study.call(&["log", "a", "--rank", "3"]);
    assert_eq!(String::from_utf8(log.stdout).unwrap(), "this is 3\n");
}

/// Each rank counts as long as it is let, and saves where it is.
const SAVING: &str = "trap 'echo saved >> $PIPELINE_STATE/$RANK; exit 75' TERM
[ -e $PIPELINE_STATE/$RANK ] && { mkdir -p $1; cp $PIPELINE_STATE/$RANK $1/$RANK; exit 0; }
touch up-$RANK; while true; do sleep 0.05; done";

fn all_up(study: &Study) -> bool {
    (0..4).all(|rank| study.exists(&format!("up-{rank}")))
}

fn all_saved_and_went_on(study: &Study) {
    for rank in 0..4 {
        // A cluster that follows processes by their parents may tell a rank itself, beside what the job tells it.
        assert!(study.read(&format!("out/a/x/{rank}")).starts_with("saved\n"), "rank {rank} could not save");
    }
}

pub fn a_first_signal_lets_all_ranks_save(cluster: &Cluster) {
    let study = one(cluster, SAVING, TWO);
    let mut runner = cluster.start(&study);
    until("the start", || all_up(&study));
    interrupt(&runner);
    assert_eq!(runner.wait().unwrap().code(), Some(130), "{}", study.read("runner.log"));
    let run = cluster.run(&study, &[]);
    assert!(run.status.success(), "{}", said(&run));
    all_saved_and_went_on(&study);
}

pub fn a_preempted_job_of_two_nodes_goes_on(cluster: &Cluster) {
    let study = one(cluster, SAVING, TWO);
    let mut runner = cluster.start(&study);
    until("the start", || all_up(&study));
    let rival = "sbatch --partition=first --nodes=2 --exclusive --output=/dev/null --job-name=rival";
    let mut rival: Vec<&str> = rival.split(' ').collect();
    rival.push("--wrap=sleep 1");
    let submitted = Command::new(rival[0]).args(&rival[1..]).env("SLURM_CONF", cluster.conf()).output();
    assert!(submitted.unwrap().status.success());
    assert!(runner.wait().unwrap().success(), "{}", study.read("runner.log"));
    all_saved_and_went_on(&study);
    assert!(study.read("runner.log").contains("a: runs again on n2"), "{}", study.read("runner.log"));
}

pub fn a_time_limit_lets_all_ranks_save(cluster: &Cluster) {
    let study = one(cluster, SAVING, &format!("{TWO}    timeout: 3s\n    retries: 1\n"));
    let run = cluster.run(&study, &[]);
    assert!(run.status.success(), "{}", said(&run));
    assert!(stderr(&run).contains("a: stopped after its time limit of 3 s; try 2 of 2"), "{}", stderr(&run));
    all_saved_and_went_on(&study);
}

pub fn the_limit_of_the_job_lets_all_ranks_save(cluster: &Cluster) {
    let more = TWO.replace("wide}", "wide, time: 1m}");
    let study = one(cluster, SAVING, &format!("{more}    retries: 2\n"));
    let run = cluster.run(&study, &[]);
    assert!(run.status.success(), "{}", said(&run));
    assert!(stderr(&run).contains("a: stopped at the time limit of its job; try 2 of 3"), "{}", stderr(&run));
    all_saved_and_went_on(&study);
}

pub fn a_rank_that_fails_on_the_other_node_is_named(cluster: &Cluster) {
    let script = "trap 'exit 75' TERM; echo $$ > pid-$RANK; echo begun $RANK
if [ $RANK = 3 ]; then while [ ! -s pid-0 -o ! -s pid-1 ]; do sleep 0.01; done; echo no such thing >&2; exit 3; fi
while true; do sleep 0.05; done";
    let study = one(cluster, script, TWO);
    let failed = cluster.run(&study, &[]);
    assert_eq!(failed.status.code(), Some(1));
    let text = stderr(&failed);
    assert!(text.contains("a: rank 3 failed with exit code 3\n  | begun 3\n  | no such thing\n"), "{text}");
    assert!((0..4).all(|rank| !alive(&study.read(&format!("pid-{rank}")))));
}

pub fn a_killed_runner_finds_the_ranks_again(cluster: &Cluster) {
    let script = "echo this is $RANK; echo >> ran; touch up-$RANK; while [ ! -e go ]; do sleep 0.05; done; mkdir -p $1; echo > $1/$RANK";
    let study = one(cluster, script, TWO);
    let mut runner = cluster.start(&study);
    until("the start", || all_up(&study));
    runner.kill().unwrap();
    runner.wait().unwrap();
    let mut runner = cluster.start(&study);
    until("the next runner", || study.read("runner.log").contains("goes on with the job of an earlier run"));
    study.write("go", "");
    assert!(runner.wait().unwrap().success(), "{}", study.read("runner.log"));
    assert_eq!(study.read("ran").lines().count(), 4);
    let log = study.call(&["log", "a", "--rank", "2"]);
    assert_eq!(String::from_utf8(log.stdout).unwrap(), "this is 2\n");
}

pub fn options_that_contradict_are_refused(cluster: &Cluster) {
    let shape = "is given by the runner itself; say `processes: N` or `processes: {nodes: 2, per-node: 8}`";
    for (options, more, text) in [
        ("--nodes=2", "", format!("`--nodes` {shape}")),
        ("--ntasks-per-node=2", "", format!("`--ntasks-per-node` {shape}")),
        ("--cpus-per-task=2", "    resources: {cpus: 4}\n", again("--cpus-per-task", "resources.cpus")),
        ("--cpus-per-task=2", "    processes: 2\n", again("--cpus-per-task", "resources.cpus")),
        ("--mem-per-cpu=2G", "    resources: {memory: 4GiB}\n", again("--mem-per-cpu", "resources.memory")),
        ("'--gres=gpu:a100:2'", "    resources: {gpus: 4}\n", again("--gres", "resources.gpus")),
        ("--gpus-per-node=2", "    processes: 2\n", again("--gpus-per-node", "resources.gpus")),
    ] {
        let study = one(cluster, "echo > $1", &format!("    slurm: {{options: [{options}]}}\n{more}"));
        let refused = cluster.run(&study, &[]);
        let text = format!("error: pipeline.yaml:8: {text}\n");
        assert_eq!((refused.status.code(), stderr(&refused)), (Some(2), text));
    }
    // What nothing else says is the study's own affair.
    let study = one(
        cluster,
        "echo $SLURM_CPUS_PER_TASK > $1",
        "    slurm: {options: [--cpus-per-task=2, --comment=here]}\n",
    );
    let run = cluster.run(&study, &[]);
    assert!(run.status.success() && study.read("out/a/x") == "2\n", "{}", said(&run));
}

fn again(option: &str, key: &str) -> String {
    format!("`{option}` says what `{key}` says; keep one of them, `{key}`")
}

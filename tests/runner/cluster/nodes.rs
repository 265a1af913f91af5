//! A stage on several nodes, whose batch system starts a worker on each and knows nothing of ranks.

use super::{CLUSTER, Fake, ONE};
use crate::ranks::RENDEZVOUS;
use crate::study::{alive, said, stderr, until};
use std::process::Command;

/// A stage that runs a script as two processes on each of two nodes.
fn two(command: &str, script: &str, more: &str) -> Fake {
    let stage = ONE.replace("sh script.sh", command);
    let mut fake = Fake::new(&format!("{stage}    processes: {{nodes: 2, per-node: 2}}\n{more}"), "");
    let cluster = CLUSTER.replace("cpus=${job.cpus}", "nodes=${job.nodes} cpus=${job.cpus}");
    fake.study.write("pipeline.yaml", &fake.study.read("pipeline.yaml").replace(CLUSTER, &cluster));
    fake.study.write("script.sh", script);
    fake.work(1);
    fake
}

#[test]
fn ranks_of_two_nodes_meet_and_resources_are_those_of_a_node() {
    // One worker more than was asked for has nothing to do.
    for workers in ["2", "3"] {
        let fake = two("python3 script.sh", RENDEZVOUS, "    resources: {cpus: 2, memory: 1GiB}\n");
        fake.put("workers", workers);
        let run = fake.run(&[]);
        assert!(run.status.success(), "{}", said(&run));
        assert_eq!(fake.study.read("out/a/x"), "0 on here\n1 on here\n2 on here\n3 on here\n");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let place = format!("a: runs on {0}, {0}\n", host.trim());
        assert!(stderr(&run).contains(&place), "{}", stderr(&run));
        assert_eq!(fake.jobs()[0]["resources"], "nodes=2 cpus=4 gpus= memory=2048 time= stage=a");
        let log = fake.study.call(&["log", "a", "--rank", "3"]);
        assert_eq!(String::from_utf8(log.stdout).unwrap(), "this is 3\n");
    }
}

#[test]
fn instances_on_several_nodes_are_jobs_of_their_own() {
    let fake = two("sh script.sh", "[ $RANK -gt 0 ] || echo $WORLD_SIZE > $1", "    shards: 2\n");
    let yaml = fake.study.read("pipeline.yaml").replace("${outputs.x}", "${outputs.x} ${params.shard}");
    fake.study.write("pipeline.yaml", &yaml);
    let run = fake.run(&[]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!((fake.calls("submit").len(), fake.study.read("out/a/x/1")), (2, "4\n".into()));
}

/// Each rank counts as long as it is let, and saves where it is.
const SAVING: &str = "trap 'echo saved >> $PIPELINE_STATE/$RANK; exit 75' TERM
[ -e $PIPELINE_STATE/$RANK ] && { mkdir -p $1; cp $PIPELINE_STATE/$RANK $1/$RANK; exit 0; }
touch up-$RANK; while true; do sleep 0.05; done";

fn all_up(fake: &Fake) -> bool {
    (0..4).all(|rank| fake.study.exists(&format!("up-{rank}")))
}

fn all_saved_and_went_on(fake: &Fake) {
    for rank in 0..4 {
        assert_eq!(fake.study.read(&format!("out/a/x/{rank}")), "saved\n", "rank {rank} could not save");
    }
}

#[test]
fn a_signal_that_reaches_one_of_the_workers_lets_all_ranks_save() {
    for signalled in ["0", "1"] {
        let fake = two("sh script.sh", SAVING, "");
        fake.put("signalled", signalled);
        let mut runner = fake.start("1.log");
        until("the start", || all_up(&fake));
        assert!(Command::new("kill").args(["-INT", &runner.id().to_string()]).status().unwrap().success());
        assert_eq!(runner.wait().unwrap().code(), Some(130), "{}", fake.study.read("1.log"));
        let run = fake.run(&[]);
        assert!(run.status.success(), "{}", said(&run));
        all_saved_and_went_on(&fake);
    }
}

/// A worker more than was asked for sees the lead free when the others have saved.
#[test]
fn a_job_that_was_told_to_stop_is_not_begun_anew_by_a_worker_too_many() {
    for signalled in ["0", "1", "2"] {
        let fake = two("sh script.sh", SAVING, "    timeout: 25s\n");
        fake.put("workers", "3");
        fake.put("signalled", signalled);
        let mut runner = fake.start("1.log");
        until("the start", || all_up(&fake));
        assert!(Command::new("kill").args(["-INT", &runner.id().to_string()]).status().unwrap().success());
        assert_eq!(runner.wait().unwrap().code(), Some(130), "{}", fake.study.read("1.log"));
        let workers = || fake.jobs()[0]["pids"].as_array().unwrap().clone();
        until("the end of all workers", || workers().iter().all(|pid| !alive(&pid.to_string())));
        fake.take("workers");
        let run = fake.run(&[]);
        assert!(run.status.success(), "{}", said(&run));
        all_saved_and_went_on(&fake);
    }
}

#[test]
fn a_second_signal_ends_all_ranks() {
    let script = "trap '' TERM; echo $$ > pid-$RANK; touch up-$RANK; while true; do sleep 0.05; done";
    let fake = two("sh script.sh", script, "");
    let mut runner = fake.start("1.log");
    until("the start", || all_up(&fake));
    let interrupt = || Command::new("kill").args(["-INT", &runner.id().to_string()]).status().unwrap();
    assert!(interrupt().success());
    until("the first signal", || !fake.calls("signal").is_empty());
    assert!(interrupt().success());
    assert_eq!(runner.wait().unwrap().code(), Some(130));
    until("the end", || (0..4).all(|rank| !alive(&fake.study.read(&format!("pid-{rank}")))));
}

#[test]
fn a_time_limit_lets_all_ranks_save() {
    let fake = two("sh script.sh", SAVING, "    timeout: 3s\n    retries: 1\n");
    let run = fake.run(&[]);
    assert!(run.status.success(), "{}", said(&run));
    assert!(stderr(&run).contains("a: stopped after its time limit of 3 s; try 2 of 2"), "{}", stderr(&run));
    all_saved_and_went_on(&fake);
}

#[test]
fn a_rank_that_fails_on_either_node_is_named_and_ends_the_others() {
    for failing in ["0", "3"] {
        let script = format!(
            "trap 'exit 75' TERM; echo $$ > pid-$RANK; echo begun $RANK
if [ $RANK = {failing} ]; then for r in 0 1 2 3; do while [ ! -s pid-$r ]; do sleep 0.01; done; done
echo no such thing >&2; exit 3; fi; while true; do sleep 0.05; done"
        );
        let fake = two("sh script.sh", &script, "");
        let failed = fake.run(&[]);
        assert_eq!(failed.status.code(), Some(1));
        let text = stderr(&failed);
        let line =
            format!("a: rank {failing} failed with exit code 3\n  | begun {failing}\n  | no such thing\n");
        assert!(text.contains(&line), "{text}");
        assert!((0..4).all(|rank| !alive(&fake.study.read(&format!("pid-{rank}")))));
    }
}

#[test]
fn a_killed_runner_finds_the_ranks_again() {
    let script = "echo this is $RANK; echo >> ran; touch up-$RANK
while [ ! -e go ]; do sleep 0.05; done; mkdir -p $1; echo > $1/$RANK";
    let fake = two("sh script.sh", script, "");
    let mut runner = fake.start("1.log");
    until("the start", || all_up(&fake));
    runner.kill().unwrap();
    runner.wait().unwrap();
    let mut runner = fake.start("2.log");
    until("the next runner", || fake.study.read("2.log").contains("goes on with the job of an earlier run"));
    fake.study.write("go", "");
    assert!(runner.wait().unwrap().success(), "{}", fake.study.read("2.log"));
    assert_eq!((fake.study.read("ran").lines().count(), fake.jobs().len()), (4, 1));
}

/// A node that goes takes its worker with it; nobody tells the others.
#[test]
fn where_a_node_goes_the_others_end() {
    for number in [0, 1] {
        let script = "echo $$ > pid-$RANK; touch up-$RANK; while [ ! -e go ]; do sleep 0.05; done; exit 3";
        let fake = two("sh script.sh", script, "");
        let mut runner = fake.start("1.log");
        until("the start", || all_up(&fake));
        let worker = fake.jobs()[0]["pids"][number].to_string();
        assert!(Command::new("kill").args(["-KILL", &worker]).status().unwrap().success());
        let gone = || (0..4).filter(|rank| !alive(&fake.study.read(&format!("pid-{rank}")))).count();
        until("the end of two ranks", || gone() == 2);
        // Nothing is left of a real one.
        fake.study.write("go", "");
        assert_eq!(runner.wait().unwrap().code(), Some(1), "{}", fake.study.read("1.log"));
    }
}

#[test]
fn a_worker_that_nobody_joins_says_what_is_wanted() {
    let fake = two("sh script.sh", "echo > $1", "    timeout: 1s\n");
    fake.put("workers", "1");
    let failed = fake.run(&[]);
    assert_eq!(failed.status.code(), Some(1));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let text = format!(
        "error: of 2 nodes only {} began within 1 s: the cluster's `submit` is to have ${{job.worker}} started once on each\n",
        host.trim()
    );
    assert!(stderr(&failed).contains(&text), "{}", stderr(&failed));
}

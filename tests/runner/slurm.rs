//! Stages as jobs of a real Slurm: a cluster of four nodes on this machine, brought up for the test.

mod cluster;
mod nodes;
mod page;
mod size;
mod srun;

use crate::pages::{follow_in, path};
use crate::site::{
    Case, SAVING, Site, a_first_signal_lets_jobs_save, a_killed_runner_loses_no_job,
    a_second_signal_ends_them, all_hold, one,
};
use crate::study::{alive, said, stderr, until};
use cluster::Cluster;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

impl Site for Cluster {
    const STUDY: &str = "engine: slurm\nslurm: {interval: 1s}\n";
    const HELD: &str = "    slurm: {options: [--begin=now+1hour]}\n";

    fn on(&self, mut command: Command) -> Command {
        command.env("SLURM_CONF", self.conf());
        command
    }

    fn queue(&self) -> String {
        self.call("squeue --noheader --format=%j")
    }
}

#[test]
fn stages_run_on_a_cluster() {
    let Some(cluster) = Cluster::up() else { return };
    let cases: [Case<Cluster>; 25] = [
        ("a job", a_job_gets_what_the_stage_asks_for),
        ("private", credentials_are_in_no_file),
        ("codes", exit_codes_and_signals_come_back),
        ("array", instances_are_one_array),
        ("killed", a_killed_runner_loses_no_job),
        ("moments", a_runner_killed_at_any_moment_submits_once),
        ("stop", a_first_signal_lets_jobs_save),
        ("gone", a_second_signal_ends_them),
        ("preempted", a_preempted_job_goes_on_from_its_state),
        ("changed", a_script_that_changed_in_the_queue_is_another_action),
        ("disturbed", a_script_that_changed_on_the_node_makes_its_outputs_unkept),
        ("time", a_time_limit_holds_on_the_node),
        ("wrong", what_slurm_refuses_is_told),
        ("ranks", nodes::ranks_of_one_node_need_no_step),
        ("nodes", nodes::ranks_of_two_nodes_meet),
        ("nodes stop", nodes::a_first_signal_lets_all_ranks_save),
        ("own srun", srun::tasks_can_save),
        ("own srun time", srun::tasks_can_save_at_a_time_limit),
        ("own srun gone", srun::tasks_end_with_the_runner),
        ("nodes time", nodes::a_time_limit_lets_all_ranks_save),
        ("nodes limit", nodes::the_limit_of_the_job_lets_all_ranks_save),
        ("nodes fail", nodes::a_rank_that_fails_on_the_other_node_is_named),
        ("nodes killed", nodes::a_killed_runner_finds_the_ranks_again),
        ("page", page::jobs_are_seen_in_the_queue_and_as_they_run),
        ("options", nodes::options_that_contradict_are_refused),
    ];
    all_hold(&cluster, &cases);
    assert_eq!(cluster.jobs(), 0);
    // It takes the nodes from whoever else has them.
    nodes::a_preempted_job_of_two_nodes_goes_on(&cluster);
    a_job_that_slurm_forgot_is_run_again(&cluster);
    the_page_can_be_followed(&cluster);
}

fn a_job_gets_what_the_stage_asks_for(cluster: &Cluster) {
    let script = r#"echo a >> ran; echo '{"event": "message", "text": "half way"}' >> $PIPELINE_EVENTS
echo spoken; echo $SLURM_CPUS_PER_TASK $SLURM_JOB_PARTITION $OMP_NUM_THREADS $DECLARED $SECRET x$OTHER > $1
echo $CUDA_VISIBLE_DEVICES | tr , '\n' | wc -l >> $1"#;
    let more = "    resources: {cpus: 3, memory: 1GiB, gpus: 2}\n    slurm: {partition: other, options: [--comment=here]}\n    \
                env: {DECLARED: yes}\n    pass-env: [SECRET]\n";
    let study = one(cluster, script, more);
    let output = cluster.command(&study, &["run"]).env("SECRET", "s3").env("OTHER", "1").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = stderr(&output);
    for part in ["a: submitted as job ", "a: runs on n", "a: half way\n"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(study.read("out/a/x").starts_with("3 other 3 yes s3 x\n"), "{}", study.read("out/a/x"));
    assert_eq!(study.call(&["log", "a"]).stdout, b"spoken\n");
    // A secret is nowhere in the store.
    let mut grep = Command::new("grep");
    grep.args(["-rq", "SECRET\\|^s3", ".pipeline/attempts", ".pipeline/logs"]).current_dir(study.path(""));
    assert_eq!(grep.status().unwrap().code(), Some(1));
    // Where it runs is not part of what it is.
    let mut here = cluster.command(&study, &["run", "--engine", "local"]);
    let again = here.env("CUDA_VISIBLE_DEVICES", "0,1").output().unwrap();
    assert!(said(&again).contains("a  cached"), "{}", said(&again));
}

fn credentials_are_in_no_file(cluster: &Cluster) {
    let shards = "    command: sh -c 'echo $1 > $2; touch up$3; while [ ! -e go ]; do sleep 0.05; done' -- ${params.url} ${outputs.x} ${params.shard}\n    shards: 2\n";
    let ranks = "    command: sh -c 'echo $1 > $2; touch up$RANK; while [ ! -e go ]; do sleep 0.05; done' -- ${params.url} ${outputs.x}\n    processes: 2\n";
    for stage in [shards, ranks] {
        let study = cluster.study(&format!(
            "  a:\n{stage}    params: {{url: 'https://me:hunter2@host/x'}}\n    outputs: [x]\n"
        ));
        let mut runner = cluster.start(&study);
        until("the start", || study.exists("up0") && study.exists("up1"));
        // What the stage itself writes is its own affair.
        let find = "find .pipeline -type f -not -path '*/out.*/*' -exec grep -l hunter2 {} +";
        let found = Command::new("sh").args(["-c", find]).current_dir(study.path("")).output().unwrap();
        assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
        study.write("go", "");
        assert!(runner.wait().unwrap().success(), "{}", study.read("runner.log"));
        let out = if stage == shards { "out/a/x/1" } else { "out/a/x" };
        assert_eq!(study.read(out), "https://me:hunter2@host/x\n");
    }
}

fn exit_codes_and_signals_come_back(cluster: &Cluster) {
    let study = one(cluster, "echo broken >&2; exit 7", "");
    let failed = cluster.run(&study, &[]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("a: failed with exit code 7\n  | broken\n"), "{}", stderr(&failed));
    study.write("script.sh", "kill -SEGV $$");
    let failed = cluster.run(&study, &[]);
    assert!(stderr(&failed).contains("a: killed by signal 11\n"), "{}", stderr(&failed));
    // The process that watches over the stage is killed: only Slurm can tell, and the stage goes with it.
    study.write("script.sh", "echo $$ > self; kill -KILL $PPID; sleep 1000");
    let failed = cluster.run(&study, &[]);
    assert!(stderr(&failed).contains("a: killed by signal 9\n"), "{}", stderr(&failed));
    assert!(!alive(&study.read("self")));
    study.write("script.sh", "echo try >> tries; [ $(wc -l < tries) -ge 2 ] || exit 75; echo ok > $1");
    study.write("pipeline.yaml", &(study.read("pipeline.yaml") + "    retries: 1\n"));
    let run = cluster.run(&study, &[]);
    assert!(run.status.success() && study.read("out/a/x") == "ok\n", "{}", said(&run));
}

fn instances_are_one_array(cluster: &Cluster) {
    let study = cluster.study(
        "  gen:
    run: ./gen
    params: {size: 3}
    outputs: [files]
    engine: local
  each:
    command: sh -c 'echo each >> ran; cat $1 > $2; echo $SLURM_ARRAY_JOB_ID > $3' -- ${inputs.file} ${outputs.n} ${outputs.job}
    each: file
    inputs: {file: gen.files}
    outputs: [n, job]
",
    );
    let run = cluster.run(&study, &[]);
    assert!(run.status.success(), "{}", said(&run));
    let ids: Vec<String> = (0..3).map(|i| study.read(&format!("out/each/job/{i}"))).collect();
    assert!(ids[0].len() > 1 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(study.read("out/each/n/2"), "file 2\n");
    // One more file is one more job, and nothing again.
    let run = cluster.run(&study, &["--set", "gen.size=4"]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!(study.read("ran").matches("each").count(), 4);
}

fn a_runner_killed_at_any_moment_submits_once(cluster: &Cluster) {
    let study = one(cluster, "echo a >> ran; sleep 2; echo done > $1", "");
    for i in 0..12u64 {
        let mut runner = cluster.start(&study);
        std::thread::sleep(Duration::from_millis(15 * (i * 7 % 12) + 20));
        runner.kill().unwrap();
        runner.wait().unwrap();
    }
    let run = cluster.run(&study, &[]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!(study.read("ran"), "a\n");
}

fn a_preempted_job_goes_on_from_its_state(cluster: &Cluster) {
    let study = one(cluster, SAVING, "    slurm: {partition: low}\n");
    let mut runner = cluster.start(&study);
    until("the start", || study.exists("up"));
    let rival = "sbatch --partition=high --exclusive --output=/dev/null --job-name=rival";
    let mut rival: Vec<&str> = rival.split(' ').collect();
    rival.push("--wrap=sleep 1");
    let submitted = Command::new(rival[0]).args(&rival[1..]).env("SLURM_CONF", cluster.conf()).output();
    assert!(submitted.unwrap().status.success());
    assert!(runner.wait().unwrap().success(), "{}", study.read("runner.log"));
    assert_eq!(study.read("out/a/x"), "resumed\n");
    let log = study.read("runner.log");
    assert!(log.contains("a: runs again on n1") && log.matches("submitted").count() == 1, "{log}");
}

fn a_script_that_changed_in_the_queue_is_another_action(cluster: &Cluster) {
    let study = one(cluster, "echo a >> ran; echo 1 > $1", "    slurm: {options: [--hold]}\n");
    let mut runner = cluster.start(&study);
    until("the queue", || study.read("runner.log").contains("a: job "));
    study.write("script.sh", "echo other >> ran; echo 2 > $1");
    let log = study.read("runner.log");
    let id = log.lines().find_map(|l| l.split_once("submitted as job ")).unwrap().1;
    cluster.call(&format!("scontrol release {id}"));
    // What waited is not run; what is there now is submitted, and waits in its turn.
    let second = || study.read("runner.log").lines().filter(|l| l.contains("submitted as job ")).count() == 2;
    until("the second job", second);
    let log = study.read("runner.log");
    assert!(
        log.contains("a: `script.sh` changed since the run began; going on with what is there now"),
        "{log}"
    );
    assert_eq!(study.read("ran"), "");
    let id = log.lines().filter_map(|l| l.split_once("submitted as job ")).next_back().unwrap().1;
    cluster.call(&format!("scontrol release {id}"));
    assert_eq!(runner.wait().unwrap().code(), Some(0), "{}", study.read("runner.log"));
    assert_eq!((study.read("ran"), study.read("out/a/x")), ("other\n".into(), "2\n".into()));
}

fn a_script_that_changed_on_the_node_makes_its_outputs_unkept(cluster: &Cluster) {
    let script = "touch up; while [ ! -e go ]; do sleep 0.05; done; echo 1 > $1; exit 0";
    let study = one(cluster, script, "");
    let mut runner = cluster.start(&study);
    until("the start", || study.exists("up"));
    study.write("script.sh", "other");
    study.write("script.sh", script);
    study.write("go", "");
    assert_eq!(runner.wait().unwrap().code(), Some(1));
    let log = study.read("runner.log");
    assert!(
        log.contains("`script.sh` (and put back, or written again as it was) changed while it ran"),
        "{log}"
    );
    assert!(!study.exists("out/a/x"));
}

fn a_time_limit_holds_on_the_node(cluster: &Cluster) {
    let study = one(cluster, "sleep 60; echo > $1", "    timeout: 0.5s\n");
    let failed = cluster.run(&study, &[]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("stopped after its time limit"), "{}", stderr(&failed));
}

fn what_slurm_refuses_is_told(cluster: &Cluster) {
    let study = one(cluster, "echo > $1", "    slurm: {partition: none}\n");
    let failed = cluster.run(&study, &[]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("invalid partition specified: none"), "{}", stderr(&failed));
    for (options, text) in [
        ("--output=x", "`--output` is given by the runner itself"),
        ("-c2", "`-c2` is no long option of sbatch, such as `--constraint=a100`"),
    ] {
        let study = one(cluster, "echo > $1", &format!("    slurm: {{options: [{options}]}}\n"));
        let refused = cluster.run(&study, &[]);
        assert_eq!(
            (refused.status.code(), stderr(&refused)),
            (Some(2), format!("error: pipeline.yaml:8: {text}\n"))
        );
    }
}

/// `docs/how-to/slurm.md`, as somebody who copies it.
fn the_page_can_be_followed(cluster: &Cluster) {
    let folder = tempfile::tempdir().unwrap();
    follow_in(folder.path(), "how-to/slurm.md", &path(), &[("SLURM_CONF", &cluster.conf())]);
}

/// The controller starts without its memory: every job is `Invalid job id`.
fn a_job_that_slurm_forgot_is_run_again(cluster: &Cluster) {
    let script = "echo a >> ran; [ -e $PIPELINE_STATE/s ] && { echo resumed > $1; exit 0; }
touch $PIPELINE_STATE/s up; sleep 1000";
    let study = one(cluster, script, "");
    let mut runner = cluster.start(&study);
    until("the start", || study.exists("up"));
    runner.kill().unwrap();
    runner.wait().unwrap();
    let pid = std::fs::read_to_string(cluster.0.folder.path().join("slurmctld.pid")).unwrap();
    Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap();
    // Its numbers begin anew elsewhere, so that no node takes a new job for one that it had to end.
    let mut conf = std::fs::File::options().append(true).open(cluster.conf()).unwrap();
    conf.write_all(b"FirstJobId=1000\n").unwrap();
    let again = Command::new("slurmctld").arg("-c").env("SLURM_CONF", cluster.conf()).status().unwrap();
    assert!(again.success());
    until("the controller", || cluster.call("squeue --jobs 1").contains("Invalid job id"));
    until("the nodes", || cluster.call("sinfo -h -p main -t idle -o %D").trim() == "1");
    let run = cluster.run(&study, &[]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!((study.read("ran").as_str(), study.read("out/a/x").as_str()), ("a\na\n", "resumed\n"));
}

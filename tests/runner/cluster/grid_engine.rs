//! The preset for Grid Engine, with a real one: a cluster of one host on this machine, brought up for the test.

use crate::daemons::Daemons;
use crate::site::{
    Case, Site, a_first_signal_lets_jobs_save, a_killed_runner_loses_no_job, a_second_signal_ends_them,
    all_hold, one,
};
use crate::study::{said, stderr, until};
use std::path::Path;
use std::process::Command;

struct Cluster(Daemons);

impl Cluster {
    /// `None` where there is no Grid Engine, or nobody may start it.
    fn up() -> Option<Self> {
        let programs = ["sge_qmaster", "sge_execd", "qsub"].map(|name| Path::new(FOLDER).join(name));
        let needs =
            "the Grid Engine test needs root, gridengine-master, gridengine-exec and gridengine-client";
        Daemons::up("cluster/grid-engine", &programs, 2, needs).map(Self)
    }

    fn call(&self, line: &str) -> String {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        said(&self.on(command).output().unwrap())
    }
}

/// Where its programs are.
const FOLDER: &str = "/usr/lib/gridengine";

impl Site for Cluster {
    const STUDY: &str = "engine: cluster\ncluster: {preset: grid-engine, interval: 1s}\n";
    const HELD: &str = "    cluster: {options: [-h]}\n";

    fn on(&self, mut command: Command) -> Command {
        let settings = std::fs::read_to_string(self.0.folder.path().join("settings")).unwrap();
        command.envs(settings.lines().filter_map(|line| line.split_once('=')));
        command.env("PATH", format!("{FOLDER}:{}", std::env::var("PATH").unwrap()));
        command
    }

    fn queue(&self) -> String {
        self.call("qstat -u root -r")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.call("qdel -u root");
    }
}

#[test]
fn stages_run_on_grid_engine() {
    let Some(cluster) = Cluster::up() else { return };
    let cases: [Case<Cluster>; 7] = [
        ("a job", a_job_gets_what_the_stage_asks_for),
        ("codes", exit_codes_come_back),
        ("array", instances_are_one_array),
        ("killed", a_killed_runner_loses_no_job),
        ("stop", a_first_signal_lets_jobs_save),
        ("gone", a_second_signal_ends_them),
        ("stuck", a_job_that_cannot_begin_is_told_of),
    ];
    all_hold(&cluster, &cases);
    until("the end of all jobs", || cluster.call("qstat -u root").is_empty());
}

fn a_job_gets_what_the_stage_asks_for(cluster: &Cluster) {
    let script = "echo spoken; echo $NSLOTS $QUEUE $OMP_NUM_THREADS $DECLARED $SECRET x$OTHER > $1";
    let more = "    resources: {cpus: 3}\n    cluster: {options: [-q, all.q], time: 1h}\n    env: {DECLARED: yes}\n    pass-env: [SECRET]\n";
    let study = one(cluster, script, more);
    let output = cluster.command(&study, &["run"]).env("SECRET", "s3").env("OTHER", "1").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = stderr(&output);
    assert!(text.contains("a: submitted as job ") && text.contains("a: runs on "), "{text}");
    assert_eq!(study.read("out/a/x"), "3 3 yes s3 x\n");
    assert_eq!(study.call(&["log", "a"]).stdout, b"spoken\n");
}

fn exit_codes_come_back(cluster: &Cluster) {
    let study = one(cluster, "echo broken >&2; exit 7", "");
    let failed = cluster.run(&study, &[]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("a: failed with exit code 7\n  | broken\n"), "{}", stderr(&failed));
    study.write("script.sh", "sleep 60; echo > $1");
    study.write("pipeline.yaml", &(study.read("pipeline.yaml") + "    timeout: 0.5s\n"));
    let failed = cluster.run(&study, &[]);
    assert!(stderr(&failed).contains("stopped after its time limit"), "{}", stderr(&failed));
}

fn instances_are_one_array(cluster: &Cluster) {
    let study = cluster.study(
        "  a:\n    command: sh -c 'echo ${params.shard} $SGE_TASK_ID > ${outputs.x}; echo $JOB_ID > ${outputs.job}'\n    \
         shards: 4\n    outputs: [x, job]\n",
    );
    let run = cluster.run(&study, &[]);
    assert!(run.status.success(), "{}", said(&run));
    let ids: Vec<String> = (0..4).map(|i| study.read(&format!("out/a/job/{i}"))).collect();
    assert!(ids[0].len() > 1 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(study.read("out/a/x/2"), "2 3\n");
}

/// A folder that the host does not see, as far as Grid Engine can tell: the job stays in the queue in an error state.
fn a_job_that_cannot_begin_is_told_of(cluster: &Cluster) {
    let study = one(cluster, "echo > $1", "    cluster: {options: [-wd, /nowhere]}\n");
    let failed = cluster.run(&study, &[]);
    assert_eq!(failed.status.code(), Some(1));
    let text = stderr(&failed);
    assert!(text.contains("never began, and it is Eqw: either the cluster could not start it"), "{text}");
}

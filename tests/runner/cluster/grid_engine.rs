//! The preset for Grid Engine, with a real one: a cluster of one host on this machine, brought up for the test.

use crate::study::{Study, alive, said, stderr, until};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

/// A cluster that ends with this.
struct Cluster {
    folder: tempfile::TempDir,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runner/cluster/grid-engine").join(name)
}

impl Cluster {
    /// `None` where there is no Grid Engine, or nobody may start it.
    fn up() -> Option<Self> {
        let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
        let there = |program: &str| Path::new("/usr/lib/gridengine").join(program).exists();
        if !root || !["sge_qmaster", "sge_execd", "qsub"].iter().all(|p| there(p)) {
            // Written past the test's own captured output: nobody should believe that it ran.
            let text = "\nSKIPPED: the Grid Engine test needs root, gridengine-master, gridengine-exec and gridengine-client\n";
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let sockets: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<String> = sockets.iter().map(|s| s.local_addr().unwrap().port().to_string()).collect();
        drop(sockets);
        let log = folder.path().join("up.log");
        let file = std::fs::File::create(&log).unwrap();
        // Daemons keep what they inherit; a pipe would never end.
        let mut up = Command::new(script("up"));
        up.arg(folder.path()).args(&ports).stdout(file.try_clone().unwrap()).stderr(file);
        let cluster = Self { folder };
        assert!(up.status().unwrap().success(), "{}", std::fs::read_to_string(log).unwrap());
        Some(cluster)
    }

    /// A command that knows where the cluster is.
    fn on(&self, mut command: Command) -> Command {
        let settings = std::fs::read_to_string(self.folder.path().join("settings")).unwrap();
        command.envs(settings.lines().filter_map(|line| line.split_once('=')));
        command.env("PATH", format!("/usr/lib/gridengine:{}", std::env::var("PATH").unwrap()));
        command
    }

    fn call(&self, line: &str) -> String {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        said(&self.on(command).output().unwrap())
    }

    fn study(&self, stages: &str) -> Study {
        let cluster = "cluster: {preset: grid-engine, interval: 1s}";
        Study::new(&format!("name: far\nengine: cluster\n{cluster}\nstages:\n{stages}"))
    }

    fn command(&self, study: &Study, arguments: &[&str]) -> Command {
        self.on(study.command(arguments))
    }

    fn run(&self, study: &Study, arguments: &[&str]) -> Output {
        self.command(study, &[&["run"], arguments].concat()).output().unwrap()
    }

    fn start(&self, study: &Study) -> Child {
        let log = std::fs::File::create(study.path("runner.log")).unwrap();
        self.command(study, &["run"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.call("qdel -u root");
        let _ = Command::new(script("down")).arg(self.folder.path()).status();
    }
}

const ONE: &str = "  a:\n    command: sh script.sh ${outputs.x}\n    outputs: [x]\n";

fn one(cluster: &Cluster, script: &str, more: &str) -> Study {
    let study = cluster.study(&format!("{ONE}{more}"));
    study.write("script.sh", script);
    study
}

type Case = fn(&Cluster);

#[test]
fn stages_run_on_grid_engine() {
    let Some(cluster) = Cluster::up() else { return };
    let cases: [(&str, Case); 7] = [
        ("a job", a_job_gets_what_the_stage_asks_for),
        ("codes", exit_codes_come_back),
        ("array", instances_are_one_array),
        ("killed", a_killed_runner_loses_no_job),
        ("stop", a_first_signal_lets_jobs_save),
        ("gone", a_second_signal_ends_them),
        ("stuck", a_job_that_cannot_begin_is_told_of),
    ];
    std::thread::scope(|scope| {
        let cluster = &cluster;
        let started: Vec<_> = cases.map(|(name, case)| (name, scope.spawn(move || case(cluster)))).into();
        let failed: Vec<_> =
            started.into_iter().filter_map(|(name, case)| case.join().is_err().then_some(name)).collect();
        assert!(failed.is_empty(), "failed: {failed:?}");
    });
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

fn a_killed_runner_loses_no_job(cluster: &Cluster) {
    let study =
        one(cluster, "echo a >> ran; touch up; while [ ! -e go ]; do sleep 0.05; done; echo done > $1", "");
    let mut runner = cluster.start(&study);
    until("the start", || study.exists("up"));
    runner.kill().unwrap();
    runner.wait().unwrap();
    let mut runner = cluster.start(&study);
    until("the next runner", || study.read("runner.log").contains("goes on with the job of an earlier run"));
    runner.kill().unwrap();
    runner.wait().unwrap();
    // Nobody watches when it ends.
    study.write("go", "");
    until("the end", || {
        let attempts = std::fs::read_dir(study.path(".pipeline/attempts")).unwrap();
        attempts.flatten().any(|a| a.path().join("ended.json").exists())
    });
    let run = cluster.run(&study, &[]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!((study.read("ran").as_str(), study.read("out/a/x").as_str()), ("a\n", "done\n"));
    assert_eq!(std::fs::read_dir(study.path(".pipeline/attempts")).unwrap().count(), 0);
}

const SAVING: &str = "trap 'echo saved >> $PIPELINE_STATE/s; exit 75' TERM
[ -e $PIPELINE_STATE/s ] && { echo resumed > $1; exit 0; }
touch up; while true; do sleep 0.05; done";

fn a_first_signal_lets_jobs_save(cluster: &Cluster) {
    // The second stage is held, and so waits in the queue.
    let more =
        "  b:\n    command: cp script.sh ${outputs.x}\n    outputs: [x]\n    cluster: {options: [-h]}\n";
    let study = one(cluster, SAVING, more);
    let mut runner = cluster.start(&study);
    until("the start", || study.exists("up") && study.read("runner.log").contains("b: job "));
    assert!(Command::new("kill").args(["-INT", &runner.id().to_string()]).status().unwrap().success());
    assert_eq!(runner.wait().unwrap().code(), Some(130), "{}", study.read("runner.log"));
    until("the queue's end", || !cluster.call("qstat -u root -r").contains("far.b."));
    let run = cluster.run(&study, &["a"]);
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!(study.read("out/a/x"), "resumed\n");
}

fn a_second_signal_ends_them(cluster: &Cluster) {
    let study = one(cluster, "trap '' TERM; echo $$ > self; while true; do sleep 0.05; done", "");
    let mut runner = cluster.start(&study);
    until("the start", || study.read("self").ends_with('\n'));
    let interrupt = || Command::new("kill").args(["-INT", &runner.id().to_string()]).status().unwrap();
    assert!(interrupt().success());
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(interrupt().success());
    assert_eq!(runner.wait().unwrap().code(), Some(130));
    assert!(!alive(&study.read("self")));
}

/// A folder that the host does not see, as far as Grid Engine can tell: the job stays in the queue in an error state.
fn a_job_that_cannot_begin_is_told_of(cluster: &Cluster) {
    let study = one(cluster, "echo > $1", "    cluster: {options: [-wd, /nowhere]}\n");
    let failed = cluster.run(&study, &[]);
    assert_eq!(failed.status.code(), Some(1));
    let text = stderr(&failed);
    assert!(text.contains("never began, and it is Eqw: either the cluster could not start it"), "{text}");
}

//! Stages that call `srun` themselves: in a job, where a study was written before the runner could start ranks, and on this
//! machine, where `srun` asks for nodes of its own.

use super::Cluster;
use crate::site::{Site, one};
use crate::study::{Study, alive, said, until};
use std::process::{Child, Command};

/// Two tasks, on two nodes where the stage is no job; a script goes on after them, whatever they came to.
const SCRIPT: &str =
    "srun --partition=wide --nodes=2 --ntasks=2 --cpus-per-task=1 sh task.sh $1 | cat\necho after >> after\n";
const IN_A_JOB: &str = "srun --ntasks=2 --cpus-per-task=1 sh task.sh $1 | cat\necho after >> after\n";

/// Each task counts as long as it is let, and saves where it is, in its time.
const SAVING: &str = "trap 'sleep 1; echo saved >> $PIPELINE_STATE/$SLURM_PROCID; echo more; exit 75' TERM
[ -e $PIPELINE_STATE/$SLURM_PROCID ] && { mkdir -p $1; cp $PIPELINE_STATE/$SLURM_PROCID $1; exit 0; }
touch up-$SLURM_PROCID; while true; do sleep 0.05; done";

/// A stage whose script, or whose program where there is none, calls `srun`.
fn study(cluster: &Cluster, local: bool, script: Option<&str>, task: &str, more: &str) -> Study {
    let engine = if local { "    engine: local\n" } else { "    resources: {cpus: 2}\n" };
    let study = one(cluster, script.unwrap_or_default(), &format!("{engine}{more}"));
    study.write("task.sh", task);
    if script.is_none() {
        let srun = IN_A_JOB.replace(" $1 | cat\necho after >> after\n", "");
        let yaml = study.read("pipeline.yaml").replace("sh script.sh", &srun);
        study.write("pipeline.yaml", &yaml);
    }
    study
}

fn up(study: &Study) -> bool {
    (0..2).all(|task| study.exists(&format!("up-{task}")))
}

fn signal(runner: &Child, signal: &str) {
    let id = runner.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
}

pub fn tasks_can_save(cluster: &Cluster) {
    for (local, script) in [(false, None), (false, Some(IN_A_JOB)), (true, None), (true, Some(SCRIPT))] {
        let study = study(cluster, local, script, SAVING, "");
        let mut runner = cluster.start(&study);
        until("the start", || up(&study));
        signal(&runner, "-INT");
        assert_eq!(runner.wait().unwrap().code(), Some(130), "{}", study.read("runner.log"));
        assert!(!study.exists("after"), "the script went on: {}", study.read("runner.log"));
        let run = cluster.run(&study, &[]);
        assert!(run.status.success(), "{}", said(&run));
        for task in 0..2 {
            let saved = study.read(&format!("out/a/x/{task}"));
            assert!(saved.starts_with("saved\n"), "task {task} of {script:?} could not save, local {local}");
        }
    }
}

pub fn tasks_can_save_at_a_time_limit(cluster: &Cluster) {
    for (local, script) in [(false, IN_A_JOB), (true, SCRIPT)] {
        let study = study(cluster, local, Some(script), SAVING, "    timeout: 4s\n    retries: 1\n");
        let run = cluster.run(&study, &[]);
        assert!(run.status.success(), "{}", said(&run));
        assert!(said(&run).contains("a: stopped after its time limit of 4 s; try 2 of 2"), "{}", said(&run));
        assert!(study.read("out/a/x/1").starts_with("saved\n"));
    }
}

/// A second signal, and the end of the runner however it comes, reach tasks that no process of this machine is the parent of.
pub fn tasks_end_with_the_runner(cluster: &Cluster) {
    for again in ["-INT", "-KILL"] {
        let task = "trap '' TERM; echo $$ > pid-$SLURM_PROCID; touch up-$SLURM_PROCID; while true; do sleep 0.05; done";
        let study = study(cluster, true, Some(SCRIPT), task, "");
        let mut runner = cluster.start(&study);
        until("the start", || up(&study));
        if again == "-INT" {
            signal(&runner, "-INT");
            std::thread::sleep(std::time::Duration::from_millis(700));
        }
        signal(&runner, again);
        runner.wait().unwrap();
        until("the end", || (0..2).all(|task| !alive(&study.read(&format!("pid-{task}")))));
        assert!(!study.exists("after"));
    }
}

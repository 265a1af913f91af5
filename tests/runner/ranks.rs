//! Stages as several processes: what each is told, how they end, and what a person sees of them.

use crate::study::{Study, alive, said, stderr, until};
use std::io::Write;
use std::process::Command;

/// Every rank tells rank 0, which waits where the variables say, its number and its node; rank 0 writes them down.
pub const RENDEZVOUS: &str = include_str!("rendezvous.py");

/// A study of one stage, as so many processes, that runs this script with its output and its state.
fn ranks(processes: &str, script: &str, more: &str) -> Study {
    let study = Study::new(&format!(
        "name: ranks\nstages:\n  a:\n    command: sh script.sh ${{outputs.x}}\n    outputs: [x]\n    \
         processes: {processes}\n{more}"
    ));
    study.write("script.sh", script);
    study
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// What every rank knows of the others, in a folder.
const TELL: &str = "mkdir -p $1
echo $RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $NODE_RANK $MASTER_ADDR $OMP_NUM_THREADS x$CUDA_VISIBLE_DEVICES > $1/$RANK
echo $MASTER_PORT > $1/port-$RANK; echo log of $RANK";

#[test]
fn every_rank_knows_the_others() {
    let study = ranks("3", TELL, "");
    let run = study.call(&["run"]);
    assert!(run.status.success(), "{}", said(&run));
    assert!(stderr(&run).contains("a: 3 processes of sh script.sh"), "{}", stderr(&run));
    for rank in 0..3 {
        let told = study.read(&format!("out/a/x/{rank}"));
        assert_eq!(told, format!("{rank} 3 {rank} 3 0 127.0.0.1 1 x\n"));
        assert_eq!(study.read(&format!("out/a/x/port-{rank}")), study.read("out/a/x/port-0"));
        let log = study.call(&["log", "a", "--rank", &rank.to_string()]);
        assert_eq!(String::from_utf8(log.stdout).unwrap(), format!("log of {rank}\n"));
    }
    assert!(study.read("out/a/x/port-0").trim().parse::<u16>().unwrap() >= 1024);
    let none = study.call(&["log", "a", "--rank", "3"]);
    let text = "error: stage a has no log of rank 3: its last run was of ranks 0 to 2\n";
    assert_eq!((none.status.code(), stderr(&none).as_str()), (Some(2), text));
}

#[test]
fn a_program_that_torchrun_could_start_runs_as_it_is() {
    let study = Study::new(
        "name: ranks\nstages:\n  a:\n    command: python3 sum.py ${outputs.x}\n    outputs: [x]\n    processes: 4\n",
    );
    study.write("sum.py", RENDEZVOUS);
    study.run(&[]);
    assert_eq!(study.read("out/a/x"), "0 on here\n1 on here\n2 on here\n3 on here\n");
}

/// A network in PyTorch's own data parallel, from its first lines as torchrun would start it.
const TORCH: &str = r#"import os, sys, torch
import torch.distributed as dist
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
assert rank == int(os.environ["RANK"])
torch.manual_seed(0)
torch.set_num_threads(1)
network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
inputs = torch.randn(32, 4)
wanted = inputs @ torch.tensor([[1.0], [-2.0], [3.0], [0.5]])
mine = slice(rank * 32 // size, (rank + 1) * 32 // size)
optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
for _ in range(200):
    optimiser.zero_grad()
    torch.nn.functional.mse_loss(network(inputs[mine]), wanted[mine]).backward()
    optimiser.step()
if rank == 0:
    print(size, *(round(x, 3) for x in network.module.weight.flatten().tolist()), file=open(sys.argv[1], "w"))
dist.barrier()
dist.destroy_process_group()
"#;

#[test]
fn a_script_of_pytorch_trains_in_two_processes() {
    let named = ["TORCH_PYTHON", "JUDGE_PYTHON"].iter().find_map(|name| std::env::var(name).ok());
    let python = named.unwrap_or_else(|| "python3".into());
    if !Command::new(&python).args(["-c", "import torch"]).output().is_ok_and(|o| o.status.success()) {
        // Written past the test's own captured output: nobody should believe that it ran.
        let text = "\nSKIPPED: the test of a PyTorch script needs a python3 with torch, or TORCH_PYTHON or JUDGE_PYTHON that names one\n";
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return;
    }
    for processes in [1, 2] {
        let study = Study::new(&format!(
            "name: ranks\nstages:\n  a:\n    command: {python} train.py ${{outputs.x}}\n    outputs: [x]\n    \
             processes: {processes}\n"
        ));
        study.write("train.py", TORCH);
        study.run(&[]);
        assert_eq!(study.read("out/a/x"), format!("{processes} 1.0 -2.0 3.0 0.5\n"));
    }
}

#[test]
fn the_number_is_in_the_record_and_not_in_the_key() {
    let study = ranks("2", "echo $WORLD_SIZE >> ran; [ $RANK -gt 0 ] || echo ok > $1", "");
    assert_eq!(study.run(&[]), ["2", "2"]);
    let run = study.call(&["run", "--json", "--set", "a.processes=3"]);
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(report["stages"][0]["fate"], "cached");
    assert_eq!(report["stages"][0]["processes"], serde_json::json!({"nodes": 1, "per-node": 2}));
    assert_eq!(study.run(&["--force", "a", "--set", "a.processes=3"]), ["3", "3", "3"]);
    // One process that is asked for knows that it is alone; one that is not asked for is told nothing.
    assert_eq!(study.run(&["--force", "a", "--set", "a.processes=1"]), ["1"]);
    let plain = study.read("pipeline.yaml").replace("    processes: 2\n", "");
    study.write("pipeline.yaml", &plain);
    study.write("script.sh", "echo x$WORLD_SIZE$RANK$MASTER_PORT >> ran; echo ok > $1");
    assert_eq!(study.run(&[]), ["x"]);
}

#[test]
fn the_first_rank_that_fails_ends_the_others_and_is_named() {
    let script = "echo $$ > pid-$RANK; echo begun $RANK
if [ $RANK = 1 ]; then while [ ! -s pid-0 -o ! -s pid-2 ]; do sleep 0.01; done; echo no such thing >&2; exit 3; fi
sleep 1000 & wait";
    let study = ranks("3", script, "");
    let failed = study.call(&["run"]);
    assert_eq!(failed.status.code(), Some(1));
    let text = stderr(&failed);
    assert!(
        text.contains("a: rank 1 failed with exit code 3\n  | begun 1\n  | no such thing\n  the whole log: "),
        "{text}"
    );
    for rank in 0..3 {
        assert!(!alive(&study.read(&format!("pid-{rank}"))), "rank {rank} lives on");
    }
    let log = String::from_utf8(study.call(&["log", "a"]).stdout).unwrap();
    assert!(log.contains("rank 1 ended with exit code 3; the others are ended"), "{log}");
    let runs = std::fs::read_dir(study.path(".pipeline/runs")).unwrap();
    let record = std::fs::read_to_string(runs.flatten().next().unwrap().path()).unwrap();
    let record: serde_json::Value = serde_json::from_str(record.lines().next().unwrap()).unwrap();
    assert_eq!(record["stages"][0]["failures"][0]["rank"], 1, "{record}");
    // One that was killed is told of likewise.
    study.write("script.sh", "[ $RANK = 0 ] || kill -SEGV $$; sleep 1000");
    let text = stderr(&study.call(&["run"]));
    assert!(text.contains("a: rank ") && text.contains(" killed by signal 11\n"), "{text}");
}

#[test]
fn a_rank_that_does_not_end_when_another_failed_is_killed() {
    let script = "trap '' TERM; echo $$ > pid-$RANK
if [ $RANK = 0 ]; then while [ ! -s pid-1 ]; do sleep 0.01; done; exit 1; fi
while true; do sleep 0.05; done";
    let study = ranks("2", script, "");
    let failed = study.call(&["run"]);
    assert!(stderr(&failed).contains("a: rank 0 failed with exit code 1\n"), "{}", stderr(&failed));
    assert!(!alive(&study.read("pid-1")));
}

const SAVING: &str = "trap 'echo saved >> $PIPELINE_STATE/$RANK; exit 75' TERM
[ -e $PIPELINE_STATE/$RANK ] && { mkdir -p $1; cp $PIPELINE_STATE/$RANK $1/$RANK; exit 0; }
touch up-$RANK; while true; do sleep 0.05; done";

#[test]
fn every_rank_is_asked_once_and_has_time_to_save() {
    let study = ranks("3", SAVING, "");
    let mut runner = study.start(&["run"]);
    until("the start", || (0..3).all(|rank| study.exists(&format!("up-{rank}"))));
    signal(runner.id(), "-INT");
    assert_eq!(runner.wait().unwrap().code(), Some(130));
    study.run(&[]);
    for rank in 0..3 {
        assert_eq!(study.read(&format!("out/a/x/{rank}")), "saved\n");
    }
}

#[test]
fn killing_the_runner_kills_every_rank() {
    let study = ranks(
        "2",
        "trap '' TERM; setsid sleep 1000 & echo $! > far-$RANK; echo $$ > pid-$RANK; wait; wait",
        "",
    );
    let files = ["far-0", "far-1", "pid-0", "pid-1"];
    let mut runner = study.start(&["run"]);
    until("the start", || files.iter().all(|f| !study.read(f).is_empty()));
    signal(runner.id(), "-KILL");
    runner.wait().unwrap();
    for file in files {
        until(file, || !alive(&study.read(file)));
    }
    // So does a second wish to stop.
    let mut runner = study.start(&["run"]);
    files.iter().for_each(|f| study.write(f, ""));
    until("the start", || files.iter().all(|f| !study.read(f).is_empty()));
    signal(runner.id(), "-TERM");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(runner.try_wait().unwrap().is_none());
    signal(runner.id(), "-TERM");
    assert_eq!(runner.wait().unwrap().code(), Some(130));
    for file in files {
        until(file, || !alive(&study.read(file)));
    }
}

#[test]
fn a_time_limit_holds_for_all() {
    let study = ranks("2", "echo $$ > pid-$RANK; sleep 1000", "    timeout: 0.5s\n");
    let text = stderr(&study.call(&["run"]));
    assert!(text.contains("a: stopped after its time limit of 0.5 s"), "{text}");
    assert!((0..2).all(|rank| !alive(&study.read(&format!("pid-{rank}")))));
}

#[test]
fn one_bar_shows_them() {
    let script = r#"echo "{\"event\": \"progress\", \"done\": $RANK, \"total\": 9, \"unit\": \"steps\"}" >> $PIPELINE_EVENTS
[ $RANK -gt 0 ] || echo > $1"#;
    let study = ranks("3", script, "");
    let run = study.call(&["run", "--log-format", "json"]);
    let lines = String::from_utf8(run.stdout).unwrap();
    let events: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = |name: &str| events.iter().filter(|e| e["event"] == name).collect::<Vec<_>>();
    assert_eq!(of("progress").iter().map(|e| &e["done"]).collect::<Vec<_>>(), [0]);
    assert_eq!(of("task-started")[0]["processes"]["per-node"], 3);
}

#[test]
fn each_has_its_gpus_and_resources_are_those_of_one() {
    let more = "    resources: {cpus: 2, gpus: 1}\n";
    let study = ranks("2", TELL, more);
    let mut run = study.command(&["run"]);
    let output = run.env("CUDA_VISIBLE_DEVICES", "3,GPU-aa,7").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    // By their number: rank 1 takes the second.
    assert_eq!(study.read("out/a/x/1"), "1 2 1 2 0 127.0.0.1 2 x3,GPU-aa\n");
    let mut run = study.command(&["run", "--set", "a.processes=4"]);
    let refused = run.env("CUDA_VISIBLE_DEVICES", "3,5,7").output().unwrap();
    assert_eq!(refused.status.code(), Some(0), "it is cached: {}", said(&refused));
    let study = ranks("4", TELL, more);
    let refused = study.command(&["run"]).env("CUDA_VISIBLE_DEVICES", "3,5,7").output().unwrap();
    let text = "error: pipeline.yaml:3: stage a asks for 4 GPUs; this machine has 3\n";
    assert_eq!((refused.status.code(), stderr(&refused).as_str()), (Some(2), text));
}

#[test]
fn numbers_that_cannot_be_are_refused_with_their_line() {
    for (processes, text) in [
        ("0", "pipeline.yaml:6: 0 processes would do nothing; leave `processes` out for one process"),
        (
            "[2]",
            "pipeline.yaml:6: expected a number of processes, or `{nodes: 2, per-node: 8}`, found a list",
        ),
        ("{nodes: 2}", "pipeline.yaml:6: the key `per-node` is missing"),
        (
            "{nodes: 2, per-node: 2}",
            "pipeline.yaml:3: stage a asks for 2 nodes, and this machine is one: `--set a.processes=4`, or `engine: slurm`",
        ),
    ] {
        let refused = ranks(processes, TELL, "").call(&["run"]);
        assert_eq!(
            (refused.status.code(), stderr(&refused)),
            (Some(2), format!("error: {text}\n")),
            "{processes}"
        );
    }
    let refused = ranks("2", TELL, "").call(&["run", "--set", "a.processes=many"]);
    let text = stderr(&refused);
    assert!(text.starts_with("error: --set a.processes=many: expected a number of processes, "), "{text}");
    assert_eq!(refused.status.code(), Some(2));
}

//! The presets that no real system was at hand for, with programs that answer as the manuals of those systems say.

use crate::study::{Study, said, stderr};
use std::path::Path;
use std::process::Output;

/// A preset, the programs that it calls, and what its study says beside its name.
const PRESETS: [(&str, &[&str], &str); 6] = [
    ("pbs", &["qsub", "qstat"], "-q, workq"),
    ("lsf", &["bsub", "bjobs"], "-q, normal"),
    ("htcondor", &["condor_submit", "condor_q"], "'+Project = \"p\"'"),
    ("kubernetes", &["kubectl"], "image, claim, /mount"),
    ("ray", &["ray", "curl"], ""),
    ("skypilot", &["sky"], "dev, A100"),
];

fn run(study: &Study) -> Output {
    let mut command = study.command(&["run"]);
    let path = format!("{}:{}", study.path("systems/bin").display(), std::env::var("PATH").unwrap());
    command.env("PATH", path).env("RAY_ADDRESS", "http://dashboard").output().unwrap()
}

/// Puts the stand-ins of some programs into a study's folder.
fn stand_in(study: &Study, programs: &[&str]) {
    std::fs::create_dir_all(study.path("systems/bin")).unwrap();
    for name in programs {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runner/cluster/systems");
        std::os::unix::fs::symlink(program, study.path("systems/bin").join(name)).unwrap();
    }
}

#[test]
fn presets_call_their_systems_as_the_manuals_say() {
    for (preset, programs, options) in PRESETS {
        let study = Study::new(&format!(
            "name: 2far_x\nengine: cluster\ncluster: {{preset: {preset}, options: [{options}], time: 90m, interval: 1s}}\nstages:\n  a:\n    \
             command: sh -c 'echo $1 $OMP_NUM_THREADS > $2' -- ${{params.shard}} ${{outputs.x}}\n    shards: 3\n    outputs: [x]\n    \
             resources: {{cpus: 2, memory: 1GiB, gpus: 1}}\n  b:\n    command: sh -c 'cat $1/* > $2' -- ${{inputs.x}} ${{outputs.y}}\n    \
             inputs: {{x: a.x}}\n    outputs: [y]\n    resources: {{cpus: 2}}\n"
        ));
        stand_in(&study, programs);
        let done = run(&study);
        assert!(done.status.success(), "{preset}: {}", said(&done));
        assert_eq!(study.read("out/b/y"), "0 2\n1 2\n2 2\n", "{preset}");
        assert!(!stderr(&done).contains("asking on"), "{preset}: {}", stderr(&done));
        study.write("pipeline.yaml", &study.read("pipeline.yaml").replace("cat $1/*", "cat $1/*; exit 7"));
        let failed = run(&study);
        assert!(stderr(&failed).contains("b: failed with exit code 7\n"), "{preset}: {}", said(&failed));
    }
}

/// SkyPilot starts the worker on every node of a job.
#[test]
fn a_stage_on_several_nodes_of_skypilot() {
    let study = Study::new(
        "name: far\nengine: cluster\ncluster: {preset: skypilot, options: [dev], interval: 1s}\nstages:\n  a:\n    \
         command: python3 meet.py ${outputs.x}\n    outputs: [x]\n    processes: {nodes: 2, per-node: 1}\n",
    );
    study.write("meet.py", crate::ranks::RENDEZVOUS);
    stand_in(&study, &["sky"]);
    let done = run(&study);
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(study.read("out/a/x"), "0 on here\n1 on here\n");
    // Of the others, each says why not.
    study.write("pipeline.yaml", &study.read("pipeline.yaml").replace("skypilot, options: [dev]", "lsf"));
    let refused = run(&study);
    let text = "stage a: it asks for 2 nodes, and `submit` of the cluster lsf names no ${job.nodes}";
    assert_eq!(
        (refused.status.code(), stderr(&refused).contains(text)),
        (Some(2), true),
        "{}",
        said(&refused)
    );
}

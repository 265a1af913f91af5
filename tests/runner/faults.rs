//! Faults that are made to happen; the next run ends as a calm one would.

use crate::study::{Study, TOY, alive, said, stderr, until};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn blob(study: &Study, link: &str) -> PathBuf {
    study.path(link).canonicalize().unwrap()
}

fn overwrite(path: &Path, text: &str) {
    fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_corrupted_blob_is_noticed_and_made_again() {
    let study = Study::new(TOY);
    study.run(&[]);
    let path = blob(&study, "out/count/n");
    overwrite(&path, "9\n");
    assert_eq!(study.run(&[]), ["count"]);
    assert_eq!(study.read("out/count/n"), "3\n");
    assert_eq!(fs::read_dir(study.path(".pipeline/damaged")).unwrap().count(), 1);
}

#[test]
fn an_edited_file_of_a_folder_is_noticed() {
    let study = Study::new(TOY);
    study.run(&[]);
    overwrite(&study.path("out/gen/files/2"), "edited");
    assert_eq!(study.run(&[]), ["gen"]);
    assert_eq!(study.read("out/gen/files/2"), "file 2\n");
}

#[test]
fn outputs_deleted_by_hand_come_back_without_running() {
    let study = Study::new(TOY);
    study.run(&[]);
    fs::remove_dir_all(study.path("out")).unwrap();
    assert!(study.run(&[]).is_empty());
    assert_eq!(study.read("out/gen/files/4"), "file 4\n");
    for entry in fs::read_dir(study.path(".pipeline/views")).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    assert!(study.run(&[]).is_empty());
    assert_eq!(study.read("out/gen/files/4"), "file 4\n");
}

#[test]
fn a_folder_that_stands_in_the_way_is_kept_aside() {
    let study = Study::new(TOY);
    study.write("out/gen/files/mine", "mine");
    study.run(&[]);
    assert_eq!(study.read("out/gen/files.kept/mine"), "mine");
    assert_eq!(study.read("out/gen/files/4"), "file 4\n");
}

#[test]
fn damaged_records_are_misses() {
    let study = Study::new(TOY);
    study.run(&[]);
    let store = study.path(".pipeline");
    overwrite(&store.join("statcache"), "garbage");
    assert!(study.run(&[]).is_empty());
    let mut files = Vec::new();
    let mut open = vec![store.join("results")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    assert_eq!(files.len(), 3);
    for file in files {
        let mut bytes = fs::read(&file).unwrap();
        bytes[20] ^= 4;
        fs::write(&file, bytes).unwrap();
    }
    assert_eq!(study.run(&[]), ["gen", "count", "score"]);
}

#[test]
fn two_runners_at_once_run_each_stage_once() {
    let study = Study::new(&TOY.replace("echo count >> ran", "echo count >> ran; sleep 0.4"));
    let mut children: Vec<_> = (0..3).map(|_| study.start(&["run"])).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let mut ran: Vec<String> = study.read("ran").lines().map(str::to_string).collect();
    ran.sort();
    assert_eq!(ran, ["count", "gen", "score"]);
}

#[test]
fn another_store_format_is_refused() {
    let study = Study::new(TOY);
    study.run(&[]);
    study.write(".pipeline/format", "99");
    let output = study.call(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("was made by another version (format 99"), "{}", stderr(&output));
}

#[test]
fn a_stage_that_writes_on_its_input_is_not_believed() {
    let yaml = "name: bad
stages:
  a:
    command: sh -c 'echo a >> ran; cp $1 $2; echo more >> $1' -- ${inputs.x} ${outputs.y}
    inputs: {x: x}
    outputs: [y]
";
    let study = Study::new(yaml);
    study.write("x", "x");
    let output = study.call(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("its input `x` changed while it ran"), "{}", said(&output));
}

#[test]
fn kill_9_at_any_moment_leaves_a_usable_store() {
    let calm = Study::new(TOY);
    calm.run(&[]);
    let expected = calm.read("out/score/scores.json");
    let study = Study::new(TOY);
    for i in 0..100u64 {
        let mut runner = study.start(&["run", "--set", &format!("gen.size={}", 4 + i % 3)]);
        std::thread::sleep(std::time::Duration::from_micros(400 * (i * 37 % 100)));
        let _ = Command::new("kill").args(["-KILL", &runner.id().to_string()]).status();
        runner.wait().unwrap();
    }
    study.run(&[]);
    assert_eq!(study.read("out/score/scores.json"), expected);
    assert_eq!(study.read("out/gen/files/4"), "file 4\n");
    assert!(study.run(&[]).is_empty());
}

#[test]
fn an_interrupted_stage_goes_on_from_its_state() {
    let yaml = "name: long
stages:
  train:
    command: sh train.sh ${outputs.model}
    outputs: [model]
";
    let study = Study::new(yaml);
    // Counts to five with its progress in the state folder; hangs at three the first time.
    study.write(
        "train.sh",
        "n=$(cat $PIPELINE_STATE/n 2>/dev/null || echo 0)
while [ $n -lt 5 ]; do
  n=$((n+1)); echo $n > $PIPELINE_STATE/n; echo step $n >> steps
  [ $n = 3 ] && [ ! -e once ] && { touch once; echo $$ > pid; sleep 1000; }
done
echo $n > $1
",
    );
    let mut runner = study.start(&["run"]);
    until("step three", || !study.read("pid").is_empty());
    runner.kill().unwrap();
    runner.wait().unwrap();
    until("the stage's end", || !alive(&study.read("pid")));
    study.run(&[]);
    assert_eq!(study.read("steps"), "step 1\nstep 2\nstep 3\nstep 4\nstep 5\n");
    assert_eq!(study.read("out/train/model"), "5\n");
}

#[test]
fn verify_believes_no_cache() {
    let study = Study::new(TOY);
    study.run(&[]);
    assert!(study.call(&["verify"]).status.success());
    let path = blob(&study, "out/count/n");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "4\n").unwrap();
    let found = study.call(&["verify"]);
    assert_eq!(found.status.code(), Some(1));
    assert!(said(&found).contains("1 damaged\n  blobs/"), "{}", said(&found));
    assert_eq!(study.run(&[]), ["count"]);
}

#[test]
fn what_is_being_written_is_not_damaged() {
    let study = Study::new(TOY);
    study.run(&[]);
    let name = ".000001.json.21410-b481f186.partial";
    let folder = |area: &str| {
        let mut folder = study.path(&format!(".pipeline/{area}"));
        while let Some(inner) = fs::read_dir(&folder).unwrap().flatten().find(|e| e.path().is_dir()) {
            folder = inner.path();
        }
        folder.join(name)
    };
    let unfinished = ["results", "blobs", "trees"].map(folder);
    for path in &unfinished {
        fs::write(path, "{\"key").unwrap();
    }
    let found = study.call(&["verify"]);
    assert!(found.status.success() && said(&found).contains(" 0 damaged"), "{}", said(&found));
    assert!(unfinished.iter().all(|path| path.exists()));
    // Whoever wrote it is gone when there is a gc.
    assert!(study.call(&["gc"]).status.success());
    assert!(!unfinished[0].exists() && !unfinished[1].exists());
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let study = Study::new(TOY);
    study.run(&[]);
    let future = std::time::SystemTime::now() + std::time::Duration::from_secs(100_000);
    for name in ["gen", "pipeline.yaml", "out/count/n", "out/gen/files/0"] {
        let path = study.path(name).canonicalize().unwrap();
        fs::File::open(path).unwrap().set_modified(future).unwrap();
    }
    assert!(study.run(&[]).is_empty());
    assert_eq!(study.run(&["--set", "gen.size=2"]), ["gen", "count", "score"]);
    assert!(study.run(&[]).is_empty());
}

#[test]
fn a_gigabyte_of_output_goes_to_the_log() {
    let yaml = "name: loud
stages:
  a:
    command: sh -c 'yes | head -c 500000000; yes | head -c 500000000 >&2; echo > $1' -- ${outputs.x}
    outputs: [x]
";
    let study = Study::new(yaml);
    let run = study.call(&["run"]);
    assert!(run.status.success() && run.stdout.len() + run.stderr.len() < 1000);
}

#[test]
fn a_store_that_cannot_be_written_says_so() {
    let study = Study::new(TOY);
    study.write(".pipeline", "a file where the store should be");
    let run = study.call(&["run"]);
    assert_eq!(run.status.code(), Some(1));
    assert_eq!(stderr(&run).lines().count(), 1, "{}", stderr(&run));
}

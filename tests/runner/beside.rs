//! Two runs of one study at once, with other values: what `out/` shows, and what each is told.

use crate::study::{Study, until};
use std::fs::File;
use std::process::{Child, Stdio};

/// Two stages that wait for a file named for their stage and value.
const TWO: &str = r#"name: two
stages:
  s:
    command: sh -c 'while [ ! -e s-$1 ]; do sleep 0.02; done; echo $1 > $2' -- ${params.n} ${outputs.o}
    params: {n: 0}
    outputs: [o]
  t:
    command: sh -c 'while [ ! -e t-$(cat $1) ]; do sleep 0.02; done; cp $1 $2' -- ${inputs.o} ${outputs.o}
    inputs: {o: s.o}
    outputs: [o]
"#;

fn start(study: &Study, n: &str) -> Child {
    let mut command = study.command(&["run", "--set", &format!("s.n={n}")]);
    command.stdout(Stdio::null()).stderr(File::create(study.path(&format!("told-{n}"))).unwrap());
    command.spawn().unwrap()
}

#[test]
fn out_shows_the_run_that_ends_last_and_both_are_told() {
    let study = Study::new(TWO);
    let started = |count: usize| {
        until("the start", || {
            let logs = std::fs::read_dir(study.path(".pipeline/logs")).into_iter().flatten().flatten();
            logs.filter(|run| run.path().join("run.jsonl").is_file()).count() == count
        });
    };
    let shows = |n: &str| ["out/s/o", "out/t/o"].map(|path| study.read(path) == format!("{n}\n"));
    let mut first = start(&study, "1");
    started(1);
    study.write("s-1", "");
    until("the first stage", || study.exists("out/s/o"));
    let mut second = start(&study, "2");
    started(2);
    for file in ["s-2", "t-2"] {
        study.write(file, "");
    }
    assert!(second.wait().unwrap().success());
    assert_eq!(shows("2"), [true, true]);
    study.write("t-1", "");
    assert!(first.wait().unwrap().success());
    // Not a mixture of both.
    assert_eq!(shows("1"), [true, true]);
    let (one, two) = (study.read("told-1"), study.read("told-2"));
    assert!(one.contains("another run of this study had put its outputs of s into out/ meanwhile"), "{one}");
    assert_eq!(two.matches("another run of this study is going on, ").count(), 1, "{two}");
    assert!(two.contains("(--set s.n=1): out/ will show the outputs of the one that ends last"), "{two}");
}

#[test]
fn runs_with_the_same_values_have_nothing_to_tell() {
    let study = Study::new(TWO);
    let mut first = start(&study, "1");
    until("the start", || study.exists(".pipeline/logs"));
    let mut command = study.command(&["run", "--set", "s.n=1"]);
    let second = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    for file in ["s-1", "t-1"] {
        study.write(file, "");
    }
    let second = second.wait_with_output().unwrap();
    assert!(first.wait().unwrap().success() && second.status.success());
    let told = study.read("told-1") + &String::from_utf8_lossy(&second.stderr);
    assert!(!told.contains("another run of this study"), "{told}");
}

#[test]
fn what_a_person_did_to_out_meanwhile_is_no_other_run() {
    let study = Study::new(TWO);
    let mut run = start(&study, "1");
    study.write("s-1", "");
    until("the first stage", || study.exists("out/s/o"));
    // As `sed -i` does: a file in the place of the link.
    std::fs::remove_file(study.path("out/s/o")).unwrap();
    study.write("out/s/o", "mine\n");
    study.write("t-1", "");
    assert!(run.wait().unwrap().success());
    assert_eq!((study.read("out/s/o"), study.read("out/s/o.kept")), ("1\n".into(), "mine\n".into()));
    let told = study.read("told-1");
    assert!(told.contains("out/s/o is not the runner's; it is now out/s/o.kept"), "{told}");
    assert!(!told.contains("another run"), "{told}");
}

//! Standard error and output that nobody reads any more, and the signals that come with it.

use crate::study::{Study, until};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Two stages; the first runs until `go` exists, and notes when it is asked to stop.
const WAITS: &str = "name: waits
stages:
  a:
    command: sh script.sh ${outputs.x}
    outputs: [x]
  b:
    command: cp ${inputs.x} ${outputs.y}
    inputs: {x: a.x}
    outputs: [y]
";

fn waits() -> Study {
    let study = Study::new(WAITS);
    let script = "trap 'echo told > told; exit 1' TERM
touch up; while [ ! -e go ]; do sleep 0.02; done; echo done > $1";
    study.write("script.sh", script);
    study
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// A runner whose output went to a reader that is gone once the stage is up.
fn unread(study: &Study) -> Child {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = study.command(&["run"]);
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let runner = command.spawn().unwrap();
    drop(command);
    until("the stage's start", || study.exists("up"));
    drop(reader);
    runner
}

#[test]
fn signals_stop_in_order_when_nobody_reads() {
    for name in ["-INT", "-TERM", "-HUP"] {
        let study = waits();
        let mut runner = unread(&study);
        signal(runner.id(), name);
        assert_eq!(runner.wait().unwrap().code(), Some(130), "{name}");
        assert!(study.exists("told"), "{name}: the stage was not asked");
    }
}

#[test]
fn the_run_goes_on_when_nobody_reads() {
    let study = waits();
    let mut runner = unread(&study);
    study.write("go", "");
    assert_eq!(runner.wait().unwrap().code(), Some(0));
    assert_eq!(study.read("out/b/y"), "done\n");
}

#[test]
fn a_log_on_a_full_disk_does_not_stop_the_run() {
    let study = waits();
    study.write("go", "");
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let status = study.command(&["run"]).stdout(Stdio::null()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(study.read("out/b/y"), "done\n");
    // A summary that could not be written is a failure, but after the work.
    study.write("script.sh", "echo other > $1");
    let output = study.command(&["run"]).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("writing to standard output"));
    assert_eq!(study.read("out/b/y"), "other\n");
    // A mistake has its own exit code also where nobody can be told of it.
    let failed = study.command(&["run", "--set", "nothing.x=1"]).stderr(full()).status().unwrap();
    assert_eq!(failed.code(), Some(2));
}

#[test]
fn a_hangup_that_was_ignored_stays_ignored() {
    let study = waits();
    let mut command = study.command(&["run"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // What `nohup` does. SAFETY: the closure makes one system call and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        })
    };
    let mut runner = command.spawn().unwrap();
    until("the stage's start", || study.exists("up"));
    signal(runner.id(), "-HUP");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(runner.try_wait().unwrap().is_none() && !study.exists("told"));
    study.write("go", "");
    assert_eq!(runner.wait().unwrap().code(), Some(0));
    assert_eq!(study.read("out/b/y"), "done\n");
}

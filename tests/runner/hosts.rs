//! Two machines that work on one folder: on one machine, each with a host name, process ids and a clock of its own.

use crate::ranks::RENDEZVOUS;
use crate::study::{Study, said, stderr, until};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Says another time than it is. Loaded into every program of a host.
const CLOCK: &str = r#"#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long offset(void) { const char *text = getenv("LC_CLOCK_OFFSET"); return text ? atol(text) : 0; }
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += offset();
    return failed;
}
time_t time(time_t *out) { struct timespec now; clock_gettime(CLOCK_REALTIME, &now); if (out) *out = now.tv_sec; return now.tv_sec; }
"#;

/// Where two hosts can be had: this needs root, `unshare` and a C compiler.
struct Hosts {
    study: Study,
    clock: PathBuf,
}

impl Hosts {
    fn new(yaml: &str) -> Option<Self> {
        let study = Study::new(yaml);
        study.write("clock/clock.c", CLOCK);
        let clock = study.path("clock/clock.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&clock).arg(study.path("clock/clock.c")).arg("-ldl");
        let mut apart = Command::new("unshare");
        apart.args(["--uts", "--pid", "--fork", "--mount-proc", "true"]).stderr(Stdio::null());
        let works = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        if !works(&mut compiler) || !works(&mut apart) {
            // Written past the test's own captured output: nobody should believe that it ran.
            std::io::stderr()
                .write_all(b"\nSKIPPED: the test of two hosts needs root, unshare and cc\n")
                .unwrap();
            return None;
        }
        Some(Self { study, clock })
    }

    /// A runner on a host of this name, whose clock is so many seconds before ours. Its process id is 1 on every host.
    fn command(&self, host: &str, offset: i64, arguments: &[&str]) -> Command {
        let mut command = self.program(host, offset, env!("CARGO_BIN_EXE_pipeline"));
        command.args(arguments);
        command
    }

    /// Any program on a host.
    fn program(&self, host: &str, offset: i64, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"])
            .args(["hostname \"$1\"; shift; exec \"$@\"", "host", host, program])
            .current_dir(self.study.path(""))
            .env("LD_PRELOAD", &self.clock)
            // Variables that begin so are handed on to every stage.
            .env("LC_CLOCK_OFFSET", offset.to_string())
            .env_remove("CARGO_TARGET_DIR")
            .stdin(Stdio::null());
        command
    }

    fn start(&self, host: &str, offset: i64, log: &str, arguments: &[&str]) -> Child {
        let log = std::fs::File::create(self.study.path(log)).unwrap();
        let mut command = self.command(host, offset, &[&["run"], arguments].concat());
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// What a run of a host prints, which must succeed.
    fn run(&self, host: &str, offset: i64, arguments: &[&str]) -> String {
        let output = self.command(host, offset, &[&["run"], arguments].concat()).output().unwrap();
        assert!(output.status.success(), "{host}: {}", said(&output));
        said(&output)
    }
}

/// Minutes by which the clocks differ.
const APART: i64 = 600;

#[test]
fn clocks_and_process_ids_are_the_hosts_own() {
    let yaml = "name: h\nstages:\n  a:\n    command: sh -c '{ hostname; date +%s; cat /proc/1/comm; } > $1' -- ${outputs.x}\n    outputs: [x]\n";
    let Some(hosts) = Hosts::new(yaml) else { return };
    hosts.run("one", APART, &[]);
    let text = hosts.study.read("out/a/x");
    let lines: Vec<&str> = text.lines().collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let before = lines[1].parse::<i64>().unwrap() - now;
    assert!(lines[0] == "one" && lines[2] == "pipeline" && (APART - 120..=APART).contains(&before), "{text}");
    assert!(hosts.study.read(".pipeline/runs").is_empty());
    let record = said(&hosts.study.call(&["runs", "--json"]));
    assert!(record.contains("one"), "{record}");
}

const SLOW: &str = "name: h
stages:
  a:
    command: sh -c 'echo $$ $(hostname) >> ran; touch up-$(hostname); while [ ! -e go ]; do sleep 0.05; done; echo done > $1' -- ${outputs.x}
    outputs: [x]
";

#[test]
fn a_living_attempt_of_another_host_is_waited_for_though_its_process_is_unknown_here() {
    for (first, second) in [(APART, -APART), (-APART, APART)] {
        let Some(hosts) = Hosts::new(SLOW) else { return };
        let mut one = hosts.start("one", first, "1.log", &[]);
        until("the start", || hosts.study.exists("up-one"));
        let mut two = hosts.start("two", second, "2.log", &[]);
        until("the wait", || {
            hosts.study.read("2.log").contains("waiting for another runner that does the same")
        });
        // Whoever tidies up meanwhile finds that somebody works there.
        let gc = hosts.command("three", 0, &["gc", "--max-size", "0", "--grace", "0s"]).output().unwrap();
        assert_eq!(gc.status.code(), Some(1), "{}", said(&gc));
        hosts.study.write("go", "");
        assert!(one.wait().unwrap().success(), "{}", hosts.study.read("1.log"));
        assert!(two.wait().unwrap().success(), "{}", hosts.study.read("2.log"));
        assert_eq!(hosts.study.read("ran").lines().count(), 1, "{}", hosts.study.read("ran"));
        assert!(said(&hosts.command("two", second, &["run"]).output().unwrap()).contains("a  cached"));
    }
}

#[test]
fn what_a_host_that_died_left_is_made_again_on_another() {
    for (first, second) in [(APART, -APART), (-APART, APART)] {
        let Some(hosts) = Hosts::new(SLOW) else { return };
        let mut one = hosts.start("one", first, "1.log", &[]);
        until("the start", || hosts.study.exists("up-one"));
        let mut two = hosts.start("two", second, "2.log", &[]);
        until("the wait", || {
            hosts.study.read("2.log").contains("waiting for another runner that does the same")
        });
        // All of the host ends at once.
        one.kill().unwrap();
        one.wait().unwrap();
        until("the other's start", || hosts.study.exists("up-two"));
        hosts.study.write("go", "");
        assert!(two.wait().unwrap().success(), "{}", hosts.study.read("2.log"));
        assert_eq!(hosts.study.read("out/a/x"), "done\n");
        let hosts_that_ran = hosts.study.read("ran");
        assert!(
            hosts_that_ran.lines().map(|l| l.split(' ').nth(1).unwrap()).eq(["one", "two"]),
            "{hosts_that_ran}"
        );
    }
}

#[test]
fn an_edit_on_either_host_is_seen_on_the_other_whatever_their_clocks_say() {
    let yaml = "name: h\nstages:\n  a:\n    command: sh script.sh ${outputs.x}\n    outputs: [x]\n";
    let Some(hosts) = Hosts::new(yaml) else { return };
    let clocks = [("one", APART), ("two", -APART)];
    for turn in 0..12usize {
        // Of one size, right after the file was read on the other host.
        hosts.study.write("script.sh", &format!("echo {turn:02} > $1\n"));
        let (host, offset) = clocks[turn % 2];
        hosts.run(host, offset, &[]);
        assert_eq!(hosts.study.read("out/a/x"), format!("{turn:02}\n"), "{host}");
        let (host, offset) = clocks[(turn + 1) % 2];
        let again = hosts.run(host, offset, &[]);
        assert!(again.contains("a  cached"), "{host}: {again}");
    }
}

#[test]
fn runs_of_two_hosts_at_one_time_have_records_of_their_own() {
    let yaml = r#"name: h
stages:
  a:
    command: sh -c 'head -c 100000 /dev/zero | tr "\0" $1 > $2; echo $3 >> $2' -- ${params.n} ${outputs.x} ${params.shard}
    shards: 8
    params: {n: 1}
    outputs: [x]
"#;
    let Some(hosts) = Hosts::new(yaml) else { return };
    let rounds = 6;
    for round in 0..rounds {
        let set = format!("a.n={round}");
        let names = ["one", "two", "three"];
        let started: Vec<_> = names
            .map(|host| hosts.start(host, 0, &format!("{host}.log"), &["--set", &set, "--force", "a"]))
            .into();
        for (mut runner, host) in started.into_iter().zip(names) {
            assert!(runner.wait().unwrap().success(), "{}", hosts.study.read(&format!("{host}.log")));
        }
    }
    // The process ids of all these runners are the same, and say nothing.
    let records = std::fs::read_dir(hosts.study.path(".pipeline/runs")).unwrap().flatten();
    let names: Vec<String> =
        records.map(|r| r.path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let tokens: std::collections::BTreeSet<&str> =
        names.iter().map(|n| n.rsplit_once('-').unwrap().1).collect();
    // A run that found everything made by another meanwhile did nothing, and has no record.
    assert!(names.len() >= rounds && tokens.len() == names.len(), "{names:?}");
    assert!(tokens.iter().all(|token| token.len() == 8), "{names:?}");
    let verify = hosts.study.call(&["verify"]);
    assert!(verify.status.success(), "{}", stderr(&verify));
    let left = Command::new("find")
        .args([".pipeline", "-name", "*.partial"])
        .current_dir(hosts.study.path(""))
        .output();
    assert_eq!(String::from_utf8(left.unwrap().stdout).unwrap(), "");
}

/// Jobs that one host submitted are found by the other.
#[test]
fn a_job_of_a_host_that_died_is_waited_for_on_another() {
    let yaml = "name: h
engine: cluster
cluster:
  submit: 'echo ${job.worker} > worker; echo 7'
  ask: 'echo 7 running'
  cancel: 'echo \"$@\" >> cancelled'
  interval: 1s
stages:
  a:
    command: sh -c 'echo a >> ran; echo done > $1' -- ${outputs.x}
    outputs: [x]
";
    for (first, second) in [(APART, -APART), (-APART, APART)] {
        let Some(hosts) = Hosts::new(yaml) else { return };
        let mut one = hosts.start("one", first, "1.log", &[]);
        until("the job", || hosts.study.read("1.log").contains("a: job 7 is running"));
        one.kill().unwrap();
        one.wait().unwrap();
        let mut two = hosts.start("two", second, "2.log", &[]);
        until("the other", || hosts.study.read("2.log").contains("goes on with the job of an earlier run"));
        let worker = hosts.study.read("worker");
        assert!(Command::new(Path::new(worker.trim())).status().unwrap().success());
        assert!(two.wait().unwrap().success(), "{}", hosts.study.read("2.log"));
        assert_eq!((hosts.study.read("ran"), hosts.study.read("out/a/x")), ("a\n".into(), "done\n".into()));
        assert!(!hosts.study.exists("cancelled"));
    }
}

/// Each host runs what the batch system starts there; the ranks of both find each other.
#[test]
fn ranks_on_two_hosts_meet_whatever_their_clocks_say() {
    let yaml = "name: h
engine: cluster
cluster:
  submit: 'echo ${job.worker} ${job.nodes} > worker; echo 7'
  ask: 'echo 7 running'
  cancel: 'echo \"$@\" >> cancelled'
  interval: 1s
stages:
  a:
    command: python3 meet.py ${outputs.x}
    outputs: [x]
    processes: {nodes: 2, per-node: 2}
";
    for (first, second) in [(APART, -APART), (-APART, APART)] {
        let Some(hosts) = Hosts::new(yaml) else { return };
        hosts.study.write("meet.py", &RENDEZVOUS.replace("'here'", "socket.gethostname()"));
        let log = std::fs::File::create(hosts.study.path("1.log")).unwrap();
        let mut runner = hosts.study.command(&["run"]);
        let mut runner = runner.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        until("the job", || hosts.study.read("1.log").contains("a: job 7 is running"));
        let text = hosts.study.read("worker");
        let (worker, nodes) = text.trim().split_once(' ').unwrap();
        assert_eq!(nodes, "2");
        let mut one = hosts.program("one", first, worker).spawn().unwrap();
        // It waits for the other, however late that is.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let mut two = hosts.program("two", second, worker).spawn().unwrap();
        assert!(one.wait().unwrap().success() && two.wait().unwrap().success());
        assert!(runner.wait().unwrap().success(), "{}", hosts.study.read("1.log"));
        assert_eq!(hosts.study.read("out/a/x"), "0 on one\n1 on one\n2 on two\n3 on two\n");
        assert!(hosts.study.read("1.log").contains("a: runs on one, two\n"), "{}", hosts.study.read("1.log"));
    }
}

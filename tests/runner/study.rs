//! A study in a folder of its own, with stages of a few lines, and the real runner.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub struct Study {
    pub dir: tempfile::TempDir,
}

/// A stage program that keeps the contract: `gen --size N [--workers N] --files FOLDER`.
pub const GEN: &str = r#"#!/bin/sh
if [ "$1" = --describe ]; then cat <<'J'
{"name": "gen", "about": "Makes files.\n\nMore of it.", "arguments": [
 {"name": "size", "role": "param", "type": "integer", "min": 1, "max": 100, "required": false, "default": 3, "help": "How many."},
 {"name": "rate", "role": "param", "type": "number", "required": false, "help": "A number."},
 {"name": "workers", "role": "tuning", "type": "integer", "min": 1, "required": false, "default": 1, "help": "Threads."},
 {"name": "files", "role": "output", "type": "path", "required": true, "help": "Folder of files."}]}
J
exit 0; fi
size=3
while [ $# -gt 0 ]; do case $1 in --size) size=$2;; --files) out=$2;; esac; shift 2; done
echo gen >> ran
mkdir -p "$out"; i=0; while [ $i -lt $size ]; do echo file $i > "$out/$i"; i=$((i+1)); done
"#;

/// gen makes files, count counts them (at most three, so that it can give the same for different inputs), score
/// makes JSON of it.
pub const TOY: &str = r#"name: toy
stages:
  gen:
    run: ./gen
    params: {size: 5}
    tuning: {workers: 2}
    outputs: [files]
  count:
    command: sh -c 'echo count >> ran; ls "$1" | head -n 3 | wc -l > "$2"' -- ${inputs.files} ${outputs.n}
    inputs: {files: gen.files}
    outputs: [n]
  score:
    command: >
      sh -c 'echo score >> ran; echo "{\"n\": $(cat $1), \"weight\": $2}" > "$3"' --
      ${inputs.n} ${params.weight} ${outputs.scores}
    inputs: {n: count.n}
    params: {weight: 0.5}
    outputs: {scores: scores.json}
    show: [scores]
"#;

impl Study {
    pub fn new(yaml: &str) -> Self {
        let study = Self { dir: tempfile::tempdir().unwrap() };
        study.write("pipeline.yaml", yaml);
        study.program("gen", GEN);
        study
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn program(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Puts a copy of the runner there, by another process: a program that a test beside this one starts meanwhile would have the
    /// copy open for writing, and then it cannot be started.
    pub fn copy_runner(&self, name: &str) {
        let mut command = Command::new("cp");
        assert!(command.arg(env!("CARGO_BIN_EXE_pipeline")).arg(self.path(name)).status().unwrap().success());
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env_remove("CARGO_TARGET_DIR").env_remove("CUDA_VISIBLE_DEVICES");
        // The tests may have been started by `nohup`. SAFETY: the closure makes one system call and touches no memory of ours.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGHUP, libc::SIG_DFL);
                Ok(())
            })
        };
        command
    }

    pub fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the study, which must succeed, and returns the stages that ran, in order.
    pub fn run(&self, arguments: &[&str]) -> Vec<String> {
        let before = self.read("ran").lines().count();
        let output = self.call(&[&["run"], arguments].concat());
        assert!(output.status.success(), "{}", said(&output));
        self.read("ran").lines().skip(before).map(str::to_string).collect()
    }

    /// Starts the runner without waiting for it.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }
}

pub fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until something is so; it is a failure when it does not become so within half a minute.
pub fn until(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process with this id lives (and is not just waiting to be reaped).
pub fn alive(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

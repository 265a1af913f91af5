//! The runner on a terminal: who may read from it, Ctrl-Z, and what is shown.

use crate::study::{Study, alive, until};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

/// A process with a terminal of its own.
struct Console {
    child: Child,
    keys: File,
    shown: Arc<Mutex<String>>,
}

impl Console {
    fn new(command: Command) -> Self {
        Self::of_width(command, 120)
    }

    fn of_width(mut command: Command, ws_col: u16) -> Self {
        let (mut ours, mut theirs) = (0, 0);
        let size = libc::winsize { ws_row: 24, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: `openpty` writes two numbers, and each becomes a file that is owned once.
        let (ours, theirs) = unsafe {
            let none = std::ptr::null_mut();
            assert_eq!(libc::openpty(&mut ours, &mut theirs, none, none.cast(), &size), 0);
            (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
        };
        let copy = || theirs.try_clone().unwrap();
        command.stdin(copy()).stdout(copy()).stderr(copy());
        // SAFETY: the closure makes two system calls and touches no memory of ours.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            })
        };
        let child = command.spawn().unwrap();
        drop((command, theirs));
        let (keys, mut screen) = (File::from(ours.try_clone().unwrap()), File::from(ours));
        let shown = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = screen.read(&mut bytes) {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        Self { child, keys, shown }
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `T` for a process that is halted; `D` where it waits in `vfork` for a child that is.
fn state(pid: &str) -> char {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('-')
}

/// Whether a process stays as it is, `D` for longer than a moment included.
fn halted(pid: &str) -> bool {
    let look = || matches!(state(pid), 'T' | 'D');
    look()
        && (0..20).all(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            look()
        })
}

#[test]
fn a_stage_has_no_terminal_to_ask_on() {
    let study = Study::new(
        "name: ask\nstages:\n  ask:\n    command: sh -c 'read x < /dev/tty && echo $x > $1' -- ${outputs.o}\n    outputs: [o]\n",
    );
    let mut console = Console::new(study.command(&["run"]));
    assert_eq!(console.child.wait().unwrap().code(), Some(1));
    until("its own message", || console.shown().contains("/dev/tty: No such device or address"));
}

/// A stage that waits for `go`, with a child in a session of its own.
fn waits(limit: &str) -> Study {
    let study = Study::new(&format!(
        "name: halts\nstages:\n  a:\n    command: sh script.sh ${{outputs.o}}\n    outputs: [o]\n    timeout: {limit}\n"
    ));
    study.write(
        "script.sh",
        "setsid sh -c 'echo $$ > far; while true; do sleep 0.05; done' & echo $$ > near
while [ ! -e go ]; do sleep 0.02; done; echo done > $1",
    );
    study
}

/// A shell with job control that runs the study, and the number of the runner.
fn at_a_prompt(study: &Study) -> Console {
    let mut shell = study.command(&[]);
    shell = {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "--noprofile", "-i"])
            .current_dir(study.dir.path())
            .env("PIPELINE", shell.get_program());
        bash
    };
    let mut console = Console::new(shell);
    console.press("$PIPELINE run; echo ended $?\n");
    until("the stage's start", || ["far", "near"].iter().all(|name| !study.read(name).is_empty()));
    console
}

#[test]
fn ctrl_z_halts_the_stages_and_their_clocks_and_fg_goes_on() {
    let study = waits("8s");
    let mut console = at_a_prompt(&study);
    console.press("\u{1a}");
    for name in ["far", "near"] {
        until("the halt", || halted(&study.read(name)));
    }
    // Longer than its time limit.
    std::thread::sleep(std::time::Duration::from_secs(9));
    assert!(alive(&study.read("near")));
    console.press("fg\n");
    until("going on", || !halted(&study.read("near")));
    study.write("go", "");
    until("the end", || study.exists("out/a/o") || console.shown().contains("FAILED"));
    assert_eq!(study.read("out/a/o"), "done\n", "{}", console.shown());
}

#[test]
fn a_halted_runner_that_is_killed_takes_its_stages_along() {
    let study = waits("1h");
    let mut console = at_a_prompt(&study);
    console.press("\u{1a}");
    until("the halt", || halted(&study.read("near")));
    console.press("kill -9 %1\n");
    for name in ["near", "far"] {
        until("the end", || !alive(&study.read(name)));
    }
}

#[test]
fn where_no_shell_could_go_on_with_it_a_runner_is_not_halted() {
    let study = waits("1h");
    let mut console = Console::new(study.command(&["run"]));
    until("the stage's start", || !study.read("near").is_empty());
    // Each halts the stage and has it go on at once, which the supervisor may hear of together.
    for _ in 0..20 {
        console.press("\u{1a}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    study.write("go", "");
    until("the end", || study.exists("out/a/o"));
    assert_eq!(console.child.wait().unwrap().code(), Some(0), "{}", console.shown());
}

#[test]
fn states_have_colours_where_a_terminal_shows_them_and_nobody_objects() {
    let study = Study::new("name: c\nstages:\n  a: {command: 'touch ${outputs.x}', outputs: [x]}\n");
    study.run(&[]);
    let cached = "\u{1b}[32mcached\u{1b}[0m";
    let shown = |set: &[(&str, &str)]| {
        let mut command = study.command(&["plan"]);
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command.env("TERM", "xterm").envs(set.iter().copied());
        let piped = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let mut console = Console::new(command);
        console.child.wait().unwrap();
        until("the plan", || console.shown().contains("cached"));
        (console.shown().contains(cached), piped.contains(cached))
    };
    assert_eq!(shown(&[]), (true, false));
    assert_eq!(shown(&[("NO_COLOR", "1")]), (false, false));
    assert_eq!(shown(&[("NO_COLOR", "")]), (true, false));
    assert_eq!(shown(&[("CLICOLOR", "0")]), (false, false));
    assert_eq!(shown(&[("TERM", "dumb")]), (false, false));
    assert_eq!(shown(&[("CLICOLOR_FORCE", "1")]), (true, true));
    assert_eq!(shown(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), (false, false));
}

/// Of so many stages each waits for a file of its own and tells how far it is.
const MANY: &str = r#"name: many
matrix: {work.n: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]}
stages:
  work:
    shell: |
      echo '{"event": "progress", "done": 3, "total": 9, "unit": "steps"}' >> "$PIPELINE_EVENTS"
      stop=sto; until [ -e $stop"p-${params.n}" ]; do sleep 0.02; done
      echo ${params.n} > ${outputs.x}
    params: {n: 0}
    outputs: [x]
    resources: {cpus: 0}
"#;

#[test]
fn of_many_stages_those_that_run_are_shown_and_the_rest_is_counted() {
    let study = Study::new(MANY);
    let mut command = study.command(&["run", "--variant", "*", "--jobs", "3"]);
    command.env("TERM", "xterm");
    let mut console = Console::new(command);
    until("three run", || console.shown().contains("3 running, 0 of 20 stages ended"));
    for n in 1..=7 {
        study.write(&format!("stop-{n}"), "");
    }
    until("seven have ended", || console.shown().contains("3 running, 7 of 20 stages ended"));
    let bar = |text: &str| text.contains("work@8 ") && text.contains("3/9 steps");
    until("a bar", || console.shown().lines().any(bar));
    (8..=20).for_each(|n| study.write(&format!("stop-{n}"), ""));
    assert_eq!(console.child.wait().unwrap().code(), Some(0));
    until("the summary", || console.shown().contains("variant   n"));
    // What was counted is taken off the screen.
    let shown = console.shown();
    assert!(shown.rsplit("stages ended").next().is_some_and(|last| last.contains("\u{1b}[2K")), "{shown:?}");
}

#[test]
fn on_a_narrow_terminal_no_line_of_what_runs_is_wider_than_it() {
    let study = Study::new(&MANY.replace("echo ${params.n} > ${outputs.x}", "cp pipeline.yaml ${outputs.x}"));
    let mut command = study.command(&["run", "--variant", "*", "--jobs", "2"]);
    command.env("TERM", "xterm");
    let mut console = Console::of_width(command, 24);
    until("what runs", || console.shown().contains("work@1 3/9 steps"));
    until("the count", || console.shown().contains("2 running, 0 of "));
    (1..=20).for_each(|n| study.write(&format!("stop-{n}"), ""));
    assert_eq!(console.child.wait().unwrap().code(), Some(0));
    // Neither a bar, nor a line that was broken.
    let shown = console.shown();
    assert!(!shown.contains('█') && !shown.contains('░'), "{shown:?}");
}

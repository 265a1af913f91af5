//! The small process between the runner and a stage: when the runner dies, however it dies, the stage and all its
//! descendants die too; when the stage ends, whatever it left behind ends with it.
//!
//! The stage has a session of its own, so no terminal: what asks there for a password fails at once. SIGTERM is handed on to
//! its process group. SIGTSTP halts the stage's whole tree, SIGCONT has it go on. SIGQUIT kills the group. SIGHUP is what the kernel sends when
//! the runner is gone, and kills as well. Standard input holds the lock of the action: it is free only when the
//! last process is.

use crate::engine::usage;
use crate::stderr;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, setsid, wait,
};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The hidden first argument that makes the runner a supervisor.
pub const WORD: &str = "__supervise";
/// The exit code when the program cannot be started.
pub const NOT_STARTED: u8 = 127;

/// How often the tree is looked at until all of it is halted, and how long between.
const LOOKS: usize = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// Runs `arguments` (the runner's process id, the program, its arguments) and returns the exit code of the program,
/// or 128 and the number of the signal that ended it.
pub fn supervise(arguments: &[OsString]) -> u8 {
    let [runner, program, rest @ ..] = arguments else { return 2 };
    let runner = runner.to_str().and_then(|text| text.parse().ok());
    match watch(runner, program, rest) {
        Ok(code) => code,
        Err(e) => {
            stderr::line(format_args!("starting {}: {e}", program.display()));
            NOT_STARTED
        }
    }
}

fn watch(runner: Option<i32>, program: &OsString, arguments: &[OsString]) -> io::Result<u8> {
    let signals = Waited::new(&[SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP])?;
    set_child_subreaper(Some(getpid()))?;
    set_parent_process_death_signal(Some(Signal::HUP))?;
    if getppid().map(|p| p.as_raw_nonzero().get()) != runner {
        // The runner died before the signal was asked for.
        return Ok(NOT_STARTED);
    }
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    apart(&mut command);
    signals.begin_without(&mut command);
    let child = Pid::from_child(&command.spawn()?);
    loop {
        match signals.next()? {
            SIGTERM | SIGINT => drop(kill_process_group(child, Signal::TERM)),
            SIGQUIT | SIGHUP => drop(kill_process_group(child, Signal::KILL)),
            // Not SIGTSTP: a group whose session has no terminal does not halt by it.
            SIGTSTP => tell_all(Signal::STOP),
            SIGCONT => tell_all(Signal::CONT),
            _ => {}
        }
        let mut code = None;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == child {
                let signalled = status.terminating_signal().map(|s| 128 + s);
                code = status.exit_status().or(signalled).map(|c| c as u8);
            }
        }
        if let Some(code) = code {
            clear(child);
            if let Some(events) = std::env::var_os("PIPELINE_EVENTS") {
                usage::write(events.as_ref(), None);
            }
            return Ok(code);
        }
    }
}

/// Signals that wait until they are asked for. Of SIGTSTP and SIGCONT only the later ever waits: each takes the other back. Handlers
/// would lose their order, for one may begin inside the other.
struct Waited(libc::sigset_t);

impl Waited {
    fn new(signals: &[i32]) -> io::Result<Self> {
        // SAFETY: the set is made empty before it is read, and this is the process's only thread.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, *signal);
            }
            match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
                0 => Ok(Self(set)),
                e => Err(io::Error::from_raw_os_error(e)),
            }
        }
    }

    /// Has a command begin with none of them held back.
    fn begin_without(&self, command: &mut Command) {
        let set = self.0;
        // SAFETY: the closure makes one system call and touches no memory of ours.
        unsafe {
            command.pre_exec(move || {
                libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
                Ok(())
            })
        };
    }

    fn next(&self) -> io::Result<i32> {
        let mut signal = 0;
        // SAFETY: both live through the call.
        match unsafe { libc::sigwait(&raw const self.0, &raw mut signal) } {
            0 => Ok(signal),
            e => Err(io::Error::from_raw_os_error(e)),
        }
    }
}

/// Has a command begin a session, and with it a process group, of its own, and die with its parent.
pub fn apart(command: &mut Command) {
    // SAFETY: the closure makes two system calls and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            setsid()?;
            Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
        });
    }
}

/// Signals every descendant of this process, also those in groups and sessions of their own. To halt takes several looks: a
/// process may start another before the signal reaches it, and the kernel's list may leave one out while another ends.
fn tell_all(signal: Signal) {
    for _ in 0..LOOKS {
        let mut open = vec![getpid()];
        let mut before = true;
        while let Some(parent) = open.pop() {
            for pid in children(parent) {
                before &= halted(pid);
                let _ = kill_process(pid, signal);
                open.push(pid);
            }
        }
        if signal != Signal::STOP || before {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether a process is halted, or over. One that the kernel holds (`D`: it waits for a child that was halted before it could
/// begin its program) halts before it does anything else.
fn halted(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['D', 'T', 't', 'Z', 'X']))
}

/// The children of a process, of all its threads.
fn children(parent: Pid) -> Vec<Pid> {
    let tasks = format!("/proc/{}/task", parent.as_raw_nonzero());
    let lists = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    let lists = lists.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| pids(&list)).collect()
}

fn pids(list: &str) -> Vec<Pid> {
    list.split_whitespace().filter_map(|p| Pid::from_raw(p.parse().ok()?)).collect()
}

/// Kills what is left of the group, and every orphan that came to this process, until none is left.
pub fn clear(group: Pid) {
    let _ = kill_process_group(group, Signal::KILL);
    end_children();
}

/// Kills every child of this process, and every orphan that came to it, until none is left.
pub fn end_children() {
    let own = getpid().as_raw_nonzero();
    loop {
        let list = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        for pid in pids(&list) {
            let _ = kill_process(pid, Signal::KILL);
        }
        // Blocks until one of them is gone; an error says that there is no child left.
        if wait(WaitOptions::empty()).is_err() {
            return;
        }
    }
}

//! The small process between the runner and a stage: when the runner dies, however it dies, the stage and all its
//! descendants die too; when the stage ends, whatever it left behind ends with it.
//!
//! The stage has a session of its own, so no terminal: what asks there for a password fails at once. SIGTERM is handed on to
//! its process group, or to the tasks that it has on a cluster. SIGTSTP halts the stage's whole tree, SIGCONT has it go on. SIGQUIT kills the group. SIGHUP is what the kernel sends when
//! the runner is gone, and kills as well. Standard input holds the lock of the action: it is free only when the
//! last process is.

use crate::engine::srun::{Stopping, end_tasks};
use crate::engine::tree::{end_children, tell_all};
use crate::engine::usage;
use crate::stderr;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process_group, set_child_subreaper,
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

/// How often the tasks of an `srun` are looked at that were told to stop.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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
    let mut stopping = None::<Stopping>;
    loop {
        match signals.next(stopping.as_ref().map(|_| LOOK_EVERY))? {
            SIGTERM | SIGINT if stopping.is_none() => stopping = Stopping::begin(child),
            SIGQUIT | SIGHUP => kill(child),
            // Not SIGTSTP: a group whose session has no terminal does not halt by it.
            SIGTSTP => tell_all(Signal::STOP),
            SIGCONT => {
                tell_all(Signal::CONT);
                stopping.iter().for_each(Stopping::halt);
            }
            _ => {}
        }
        stopping = stopping.filter(|stopping| !stopping.is_over());
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

    /// The next one; 0 where none came in time.
    fn next(&self, patience: Option<Duration>) -> io::Result<i32> {
        let limit = patience.map(|time| libc::timespec {
            tv_sec: time.as_secs() as libc::time_t,
            tv_nsec: time.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the set and the time live through the call; nobody asks for more than the number.
        match unsafe { libc::sigtimedwait(&raw const self.0, std::ptr::null_mut(), limit) } {
            -1 => match io::Error::last_os_error() {
                e if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => Ok(0),
                e => Err(e),
            },
            signal => Ok(signal),
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

/// Kills a group; the tasks of its `srun` as well, wherever they are.
pub fn kill(group: Pid) {
    end_tasks();
    let _ = kill_process_group(group, Signal::KILL);
}

/// Kills what is left of the group, and every orphan that came to this process, until none is left.
pub fn clear(group: Pid) {
    kill(group);
    end_children();
}

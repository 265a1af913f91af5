//! Stages that have Slurm's `srun` start tasks, be it their program or called by it, on this machine or in a job.
//!
//! At a SIGTERM, `srun` kills its tasks before they can save. So Slurm is asked to signal the tasks, and `srun` ends when they
//! have ended. Whatever waits for it is halted meanwhile, so that a script does not go on to what comes next; it gets the
//! signal when `srun` is over, and so does all that reads from it.

use crate::engine::tree;
use crate::stderr;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::ffi::OsString;
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The hidden first argument that makes the runner the process that has Slurm signal tasks.
pub const WORD: &str = "__tasks";
/// The program, as the kernel names it.
const SRUN: &str = "srun";
/// How long `srun` may take to end its tasks.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const TICK: Duration = Duration::from_millis(20);

/// Tasks below this process that are to save and stop.
pub struct Stopping {
    group: Pid,
    /// The processes that started the tasks.
    sruns: Vec<Pid>,
    /// Those that wait for these.
    waiting: Vec<Pid>,
}

impl Stopping {
    /// Has a stage, which is a process group below this process, save and stop. `None` where it has been told by that, as nothing
    /// of it is `srun`.
    pub fn begin(group: Pid) -> Option<Self> {
        let (sruns, waiting) = tree::halt_above(SRUN);
        if sruns.is_empty() {
            let _ = kill_process_group(group, Signal::TERM);
            return None;
        }
        // A process of its own: where Slurm does not answer, this one still hears what it is told.
        let helper = store::process::program().and_then(|runner| {
            let pids = sruns.iter().map(|pid| pid.as_raw_nonzero().to_string());
            Command::new(runner).arg(WORD).args(pids).stdin(Stdio::null()).spawn()
        });
        if helper.is_err() {
            tell(&sruns, Signal::TERM);
        }
        Some(Self { group, sruns, waiting })
    }

    /// Whether all tasks have ended. What waited for them, and the rest of the stage, is told then.
    pub fn is_over(&self) -> bool {
        let over = !self.sruns.iter().any(|pid| tree::is(*pid, SRUN));
        if over {
            let _ = kill_process_group(self.group, Signal::TERM);
            tell(&self.waiting, Signal::CONT);
        }
        over
    }

    /// Halts again what waits, after all was told to go on.
    pub fn halt(&self) {
        tell(&self.waiting, Signal::STOP);
    }
}

/// Ends all tasks below this process. An `srun` that is killed leaves its tasks where they are; one that gets a SIGTERM kills
/// them.
pub fn end_tasks() {
    let (sruns, _) = tree::halt_above(SRUN);
    let begun = Instant::now();
    tell(&sruns, Signal::TERM);
    while sruns.iter().any(|pid| tree::is(*pid, SRUN)) && begun.elapsed() < PATIENCE {
        std::thread::sleep(TICK);
    }
}

fn tell<'a>(pids: impl IntoIterator<Item = &'a Pid>, signal: Signal) {
    for pid in pids {
        // One that is gone has nothing more to be told.
        let _ = kill_process(*pid, signal);
    }
}

/// Signals the tasks of those `srun` whose process ids are the arguments. One that has no tasks yet gets the signal itself.
pub fn main(arguments: &[OsString]) -> u8 {
    let pids: Vec<Pid> =
        arguments.iter().filter_map(|pid| Pid::from_raw(pid.to_str()?.parse().ok()?)).collect();
    let told = steps(&pids).and_then(|steps| {
        let ids: Vec<&str> = steps.iter().map(|(_, id)| id.as_str()).collect();
        if !ids.is_empty() {
            call("scancel", &[&["--quiet", "--signal=TERM"], &*ids].concat())?;
        }
        Ok(steps)
    });
    let steps = told.unwrap_or_else(|e| {
        stderr::line(format_args!("the tasks of srun cannot be told to stop: {e}"));
        Vec::new()
    });
    let taskless = pids.iter().filter(|pid| !steps.iter().any(|(of, _)| of == *pid));
    tell(taskless, Signal::TERM);
    0
}

/// The ids of the steps that these processes of this machine started.
fn steps(pids: &[Pid]) -> io::Result<Vec<(Pid, String)>> {
    let text = call("scontrol", &["--oneliner", "show", "step"])?;
    let all = text.lines().filter_map(|line| step(line, &store::process::host()));
    Ok(all.filter(|(pid, _)| pids.contains(pid)).collect())
}

/// A step that was started on `host`: the process that did, and the id.
fn step(line: &str, host: &str) -> Option<(Pid, String)> {
    let value = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
    let (at, pid) = value("SrunHost:Pid=")?.rsplit_once(':')?;
    let label = |name: &str| name.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    let id = value("StepId=")?.to_string();
    (label(at) == label(host)).then_some((Pid::from_raw(pid.parse().ok()?)?, id))
}

/// Calls one of Slurm's programs; what it says.
fn call(program: &str, words: &[&str]) -> io::Result<String> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    // The caller's own habits would change what is done.
    for (name, _) in std::env::vars_os() {
        if ["SCANCEL_", "SCONTROL_"].iter().any(|own| name.to_string_lossy().starts_with(own)) {
            command.env_remove(&name);
        }
    }
    let output = command.output().map_err(|e| io::Error::new(e.kind(), format!("{program}: {e}")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(io::Error::other(format!("{program} failed: {}", said.trim()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_known_by_who_started_it() {
        let line = "StepId=12_3.0 UserId=0 State=RUNNING Name=sh SrunHost:Pid=Login1:30097";
        let of = |line: &str, host: &str| step(line, host).map(|(pid, id)| (pid.as_raw_nonzero().get(), id));
        assert_eq!(of(line, "login1.example.org\n"), Some((30097, "12_3.0".into())));
        assert_eq!(of(line, "login2"), None);
        assert_eq!(of("No steps in the system", "login1"), None);
    }
}

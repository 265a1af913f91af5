//! The ranks of a job on several nodes: one step of `srun`, with one starter of ranks on each node.
//!
//! A signal for the ranks goes to the tasks of the step and never to `srun`, which would kill them before they can save.

use crate::engine::ranks::{self, WORD};
use rustix::process::Signal;
use std::ffi::OsString;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs, io};
use study::Processes;

/// The command that starts the ranks of an attempt on all nodes of this job; `cpus` are those of one rank.
pub fn command(folder: &Path, processes: Processes, cpus: u32) -> io::Result<Command> {
    let mut command = Command::new("srun");
    let nodes = processes.nodes;
    command
        .args([format!("--nodes={nodes}"), format!("--ntasks={nodes}")])
        .arg(format!("--cpus-per-task={}", cpus * processes.per_node))
        .args(["--ntasks-per-node=1", "--cpu-bind=none", "--mpi=none", "--input=none"])
        .args(["--kill-on-bad-exit=1", "--export=ALL"])
        .arg(store::process::program_by_name()?)
        .arg(WORD)
        .arg(folder);
    for (name, value) in meeting()? {
        // What the study says is what counts.
        if env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    Ok(command)
}

/// Where the ranks meet: this node, which is the first one of the job, at a port that nobody listens on here.
fn meeting() -> io::Result<[(&'static str, OsString); 2]> {
    let node = env::var("SLURMD_NODENAME").unwrap_or_default();
    let known = (node.as_str(), 0).to_socket_addrs().is_ok_and(|mut all| all.next().is_some());
    let host = match known {
        true => node.into(),
        // Slurm may call its nodes otherwise than the network does.
        false => fs::read_to_string("/proc/sys/kernel/hostname")?.trim().into(),
    };
    Ok([("MASTER_ADDR", host), ("MASTER_PORT", ranks::free_port()?.to_string().into())])
}

/// Signals the tasks of this job's steps: neither this process nor `srun`.
pub fn signal(signal: Signal) {
    let word = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
    let task = word("SLURM_ARRAY_JOB_ID").zip(word("SLURM_ARRAY_TASK_ID"));
    // The bare number of an array's last task stands for all of them.
    let Some(id) = task.map(|(job, task)| format!("{job}_{task}")).or_else(|| word("SLURM_JOB_ID")) else {
        return;
    };
    let signal = if signal == Signal::KILL { "KILL" } else { "TERM" };
    let mut command = Command::new("scancel");
    command.args(["--quiet", &format!("--signal={signal}"), &id]).stdin(Stdio::null());
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SCANCEL_")) {
        command.env_remove(name);
    }
    // On a thread of its own: a controller that does not answer must not keep the time limit from being looked at.
    let _ = std::thread::Builder::new().spawn(move || command.status());
}

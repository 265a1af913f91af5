//! A stage as several processes: a small process on each node starts them with the variables that torchrun sets, hands
//! signals on to each, and ends the others when the first of them fails.
//!
//! Each rank has a session and a log of its own. All of them see the GPUs of their node in one order, so that rank
//! `LOCAL_RANK` takes the GPU of that number, as programs that torchrun starts do.

use crate::engine::error::{Error, Result};
use crate::engine::private::{self, Words};
use crate::engine::stop::GRACE;
use crate::engine::supervise::{NOT_STARTED, apart};
use crate::engine::tree::end_children;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper, wait};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use store::{IoContext, record};
use study::Processes;

/// The hidden first argument that makes the runner the starter of a node's ranks.
pub const WORD: &str = "__ranks";
/// How long the others may take to end when one rank has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the end of a rank is looked for while that time runs.
const TICK: Duration = Duration::from_millis(20);
/// Ports that no system gives to outgoing connections of its own accord.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// `ranks.json` of an attempt: what the starters of ranks need to know.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ranks {
    pub program: PathBuf,
    pub words: Words,
    pub processes: Processes,
    /// Of rank 0; the others' lie beside it.
    pub log: PathBuf,
    pub events: PathBuf,
}

/// `failed-rank.json` of an attempt: the first rank that failed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FailedRank {
    pub rank: u32,
    /// Its exit code, or 128 and the number of the signal.
    pub code: u8,
}

/// The log or the events of a rank, beside those of rank 0, which are the stage's.
pub fn of_rank(path: &Path, rank: u32) -> PathBuf {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    match rank {
        0 => path.into(),
        rank => path.with_extension(format!("rank-{rank}.{ending}")),
    }
}

/// The first rank of an attempt that failed, without having been asked to end.
pub fn failed(folder: &Path) -> Option<FailedRank> {
    serde_json::from_slice(&std::fs::read(failed_path(folder)).ok()?).ok()
}

/// Where the first rank that failed is written down.
pub fn failed_path(folder: &Path) -> PathBuf {
    folder.join("failed-rank.json")
}

/// A port of this machine that nobody listens on. Callers that come at the same time begin to look at different ones.
pub fn free_port() -> io::Result<u16> {
    let all = PORTS.len() as u32;
    let first = std::process::id().wrapping_mul(2_654_435_761) % all;
    let ports = (0..all).map(|i| PORTS.start + ((first + i) % all) as u16);
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    ports.into_iter().find(free).ok_or_else(|| io::ErrorKind::AddrInUse.into())
}

impl Ranks {
    /// Puts it into an attempt folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        Ok(record::write(&folder.join("ranks.json"), self, true)?)
    }

    fn read(folder: &Path) -> Option<Self> {
        record::read(&folder.join("ranks.json"))
    }

    /// The variables of a rank. Where Slurm started the job, its own are what they were if `srun` had started the ranks.
    fn variables(&self, node: u32, local: u32, meeting: &[(&'static str, String)]) -> Vec<(&str, String)> {
        let Processes { nodes, per_node } = self.processes;
        let (rank, all) = (node * per_node + local, self.processes.total());
        let numbers = [
            ("RANK", rank),
            ("WORLD_SIZE", all),
            ("LOCAL_RANK", local),
            ("LOCAL_WORLD_SIZE", per_node),
            ("NODE_RANK", node),
            ("GROUP_RANK", node),
            ("GROUP_WORLD_SIZE", nodes),
        ];
        let slurm = [
            ("SLURM_PROCID", rank),
            ("SLURM_LOCALID", local),
            ("SLURM_NODEID", node),
            ("SLURM_NTASKS", all),
            ("SLURM_NPROCS", all),
            ("SLURM_STEP_NUM_TASKS", all),
            ("SLURM_NTASKS_PER_NODE", per_node),
        ];
        let slurm = slurm.into_iter().filter(|_| std::env::var_os("SLURM_JOB_ID").is_some());
        let mut all: Vec<_> = numbers.into_iter().chain(slurm).map(|(n, v)| (n, v.to_string())).collect();
        all.extend(meeting.iter().cloned());
        all
    }

    /// Starts a rank.
    fn start(&self, node: u32, local: u32, meeting: &[(&'static str, String)]) -> Result<Pid> {
        let rank = node * self.processes.per_node + local;
        let path = of_rank(&self.log, rank);
        let log = File::options().create(true).append(true).open(&path).at("opening", &path)?;
        let what = || format!("rank {rank} ({})", self.program.display());
        let failed = |source| Error::Start { what: what(), source };
        let words = self.words.whole();
        let words =
            words.ok_or_else(|| failed(io::Error::other("its private words did not come with it")))?;
        let mut command = Command::new(&self.program);
        command
            .args(words.iter().skip(1))
            .env_remove(private::VARIABLE)
            .envs(self.variables(node, local, meeting))
            .env("PIPELINE_EVENTS", of_rank(&self.events, rank))
            .stdin(Stdio::null())
            .stdout(log.try_clone().at("opening", &path)?)
            .stderr(log);
        apart(&mut command);
        let child = command.spawn().map_err(failed)?;
        Ok(Pid::from_child(&child))
    }

    /// Starts the ranks of this node, which of several is `node` or a task of Slurm's step, and waits for all of them. Returns the exit code of the first that failed, or 0.
    fn run(&self, folder: &Path, node: Option<u32>) -> Result<u8> {
        let what = |source| Error::Start { what: "the processes of a stage".into(), source };
        let task = || std::env::var("SLURM_PROCID").ok().filter(|_| self.processes.nodes > 1)?.parse().ok();
        let node = node.or_else(task).unwrap_or(0);
        let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM]).map_err(what)?;
        set_child_subreaper(Some(getpid())).map_err(|e| what(e.into()))?;
        // What the study says of these is what counts.
        let mut meeting = Vec::new();
        if std::env::var_os("MASTER_ADDR").is_none() {
            meeting.push(("MASTER_ADDR", Ipv4Addr::LOCALHOST.to_string()));
        }
        if std::env::var_os("MASTER_PORT").is_none() {
            meeting.push(("MASTER_PORT", free_port().map_err(what)?.to_string()));
        }
        let mut living: Vec<(u32, Pid)> = Vec::new();
        for local in 0..self.processes.per_node {
            match self.start(node, local, &meeting) {
                Ok(pid) => living.push((node * self.processes.per_node + local, pid)),
                Err(e) => {
                    tell(&living, Signal::KILL);
                    end_children();
                    return Err(e);
                }
            }
        }
        let code = watch(&mut signals, &mut living, folder);
        end_children();
        Ok(code)
    }
}

/// Waits for the ranks.
fn watch(signals: &mut Signals, living: &mut Vec<(u32, Pid)>, folder: &Path) -> u8 {
    let (mut told, mut first) = (false, None::<(u8, Instant)>);
    while !living.is_empty() {
        let heard: Vec<i32> = match first {
            None => signals.wait().collect(),
            Some(_) => signals.pending().collect(),
        };
        if heard.iter().any(|signal| *signal != SIGCHLD) && !std::mem::replace(&mut told, true) {
            tell(living, Signal::TERM);
        }
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(at) = living.iter().position(|(_, living)| *living == pid) else { continue };
            let Some(code) = status.exit_status().or(status.terminating_signal().map(|s| 128 + s)) else {
                continue;
            };
            let (rank, _) = living.swap_remove(at);
            // What it left in its group would hold the others up.
            let _ = kill_process_group(pid, Signal::KILL);
            if code != 0 && first.is_none() {
                first = Some((code as u8, Instant::now()));
                if !told {
                    note(folder, rank, code as u8, living.len());
                    tell(living, Signal::TERM);
                }
            }
        }
        let Some((_, since)) = first else { continue };
        if since.elapsed() > if told { GRACE } else { PATIENCE } {
            tell(living, Signal::KILL);
        }
        std::thread::sleep(TICK);
    }
    first.map_or(0, |(code, _)| code)
}

fn tell(living: &[(u32, Pid)], signal: Signal) {
    for (_, pid) in living {
        // One that is gone has nothing more to be told.
        let _ = kill_process_group(*pid, signal);
    }
}

/// Writes down, once for all nodes, that a rank failed.
fn note(folder: &Path, rank: u32, code: u8, others: usize) {
    let Ok(bytes) = serde_json::to_vec(&FailedRank { rank, code }) else { return };
    let file = File::options().create_new(true).write(true).open(failed_path(folder));
    // Another node was first, or nothing can be written: the exit code still says that it failed.
    if file.and_then(|mut file| file.write_all(&bytes)).is_ok() && others > 0 {
        let how = match code {
            129.. => format!("was killed by signal {}", code - 128),
            code => format!("ended with exit code {code}"),
        };
        crate::stderr::line(format_args!("rank {rank} {how}; the others are ended"));
    }
}

/// Does what the attempt folder says that is the first argument; the number of this node may follow.
pub fn main(arguments: &[OsString]) -> u8 {
    let (folder, node) = match arguments {
        [folder] => (Path::new(folder), None),
        [folder, node] => (Path::new(folder), node.to_str().and_then(|node| node.parse().ok())),
        _ => return 2,
    };
    let ranks = Ranks::read(folder).ok_or_else(|| Error::NoWork(folder.into()));
    let done = ranks.and_then(|ranks| ranks.run(folder, node));
    done.unwrap_or_else(|e| {
        crate::stderr::line(format_args!("error: {e}"));
        NOT_STARTED
    })
}

//! The files of a job in its attempt's folder: what its node is told, and what it writes.

use super::nodes::Node;
use super::slurm::step;
use crate::cache::failure::Change;
use crate::engine::contract::End;
use crate::engine::error::Result;
use crate::engine::private::{self, Words};
use crate::engine::ranks;
use crate::engine::steady::Told;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{fs, io};
use store::record;
use study::Processes;

/// `job.json` of an attempt: what the node needs to know. Variables come with the job: they may be secrets, which are
/// not to be stored.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobSpec {
    pub words: Words,
    pub program: PathBuf,
    /// What must be as it was when the job was submitted.
    pub parts: Vec<Told>,
    pub root: PathBuf,
    pub out: PathBuf,
    pub events: PathBuf,
    pub state: PathBuf,
    pub log: PathBuf,
    /// Whether it brings its environment in a file.
    #[serde(default)]
    pub brings_environment: bool,
    /// Seconds.
    pub timeout: Option<f64>,
    /// The job's own limit in seconds less the time before it at which the job is told, where both are known.
    #[serde(default)]
    pub notice: Option<f64>,
    /// As how many processes it is started, and the cores of each.
    #[serde(default)]
    pub processes: Option<(Processes, u32)>,
}

impl JobSpec {
    /// What stands in an attempt folder.
    pub fn read(folder: &Path) -> Option<Self> {
        record::read(&folder.join("job.json"))
    }

    /// What is started on this node: the program, or what starts its ranks here or on all nodes. `node` is this one, where
    /// each has a worker.
    pub fn command(&self, folder: &Path, node: Option<&Node>) -> io::Result<Command> {
        let runner = store::process::program;
        Ok(match self.processes {
            None => {
                let words = self
                    .words
                    .whole()
                    .ok_or_else(|| io::Error::other("its private words did not come with it"))?;
                let mut command = Command::new(&self.program);
                command.args(words.iter().skip(1)).env_remove(private::VARIABLE);
                command
            }
            Some((processes, cpus)) if self.is_step() => step::command(folder, processes, cpus)?,
            Some(_) => {
                let mut command = Command::new(runner()?);
                command.arg(ranks::WORD).arg(folder);
                command.args(node.map(|node| node.number.to_string()));
                // What the study says of these is what counts.
                let meeting = node.map(Node::variables).into_iter().flatten();
                command.envs(meeting.filter(|(name, _)| std::env::var_os(name).is_none()));
                command
            }
        })
    }

    fn nodes(&self) -> u32 {
        self.processes.map_or(1, |(processes, _)| processes.nodes)
    }

    /// Whether its processes are tasks of a step of the job, which only Slurm reaches.
    pub fn is_step(&self) -> bool {
        self.nodes() > 1 && !self.brings_environment
    }

    /// On how many nodes its system starts a worker.
    pub fn workers(&self) -> u32 {
        if self.is_step() { 1 } else { self.nodes() }
    }

    /// Puts it there.
    pub fn write(&self, folder: &Path) -> Result<()> {
        Ok(record::write(&folder.join("job.json"), self, true)?)
    }
}

/// `ended.json` of an attempt: how the stage ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ended {
    /// The name of the job. One that was given up, and ran all the same, says nothing of the one that came after it.
    #[serde(default)]
    pub job: String,
    /// The exit code, or 128 and the number of the signal.
    pub code: u8,
    pub seconds: f64,
    /// Whether somebody asked it to stop; then the code may not be of its own choice.
    pub told: bool,
    /// Whether its time limit was over.
    pub timeout: bool,
    /// Parts that had changed before it was started, so that it was not.
    #[serde(default)]
    pub stale: Vec<Change>,
    /// What was written while it ran.
    #[serde(default)]
    pub disturbed: Vec<Change>,
}

impl Ended {
    /// Where it stands.
    pub fn path(folder: &Path) -> PathBuf {
        folder.join("ended.json")
    }

    /// What the node wrote of a job, if it has.
    pub fn read(folder: &Path, job: &str) -> Option<Self> {
        record::read(&Self::path(folder)).filter(|ended: &Self| ended.job == job)
    }

    /// The same in the runner's words.
    pub fn end(&self) -> End {
        match self.code {
            _ if !self.stale.is_empty() => End::Stale(self.stale.clone()),
            0 if !self.disturbed.is_empty() => End::Disturbed(self.disturbed.clone()),
            0 => End::Success(self.seconds),
            _ if self.timeout => End::Timeout,
            code @ 129.. => End::Signal(code - 128),
            code => End::Exit(code),
        }
    }
}

/// Whether a job of an attempt has begun on some node.
pub fn has_begun(folder: &Path) -> bool {
    begun_path(folder).exists()
}

/// Where that is noted.
pub fn begun_path(folder: &Path) -> PathBuf {
    folder.join("begun")
}

/// When it did.
pub fn began(folder: &Path) -> Option<SystemTime> {
    fs::metadata(begun_path(folder)).and_then(|meta| meta.modified()).ok()
}

/// For how long its stage ran, where the node could still write that down.
pub fn ran(folder: &Path) -> Option<f64> {
    record::read(&Ended::path(folder)).map(|ended: Ended| ended.seconds)
}

/// Has a job that was told to stop end at once, where its system is slow to kill it.
pub fn kill(folder: &Path) {
    // At worst it takes its time.
    let _ = fs::write(kill_path(folder), "");
}

/// Whether it is to.
pub fn is_killed(folder: &Path) -> bool {
    kill_path(folder).exists()
}

fn kill_path(folder: &Path) -> PathBuf {
    folder.join("kill")
}

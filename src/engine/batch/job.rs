//! The part of a job on its node: what it is told, and the exit code that it writes.

use super::environ;
use super::nodes::{self, First, Node, Part};
use super::running;
use super::slurm::step;
use super::submission::Submission;
use crate::cache::failure::Change;
use crate::engine::contract::End;
use crate::engine::error::{Error, Result};
use crate::engine::private::{self, Words};
use crate::engine::ranks;
use crate::engine::steady::Told;
use crate::engine::supervise::NOT_STARTED;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use store::IoContext;
use store::{link, record};
use study::Processes;

/// The hidden first argument that makes the runner the process of a job.
pub const WORD: &str = "__job";
/// The last word of a job that is in its own environment.
const AT_HOME: &str = "at-home";
/// What a job ends with that is told to stop before its stage began: 128 and SIGTERM.
const TOLD: u8 = 143;
/// How long the workers of a job may take until one has begun on each of its nodes.
const GATHERING: Duration = Duration::from_secs(600);

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
        let runner = std::env::current_exe;
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
    fn is_step(&self) -> bool {
        self.nodes() > 1 && !self.brings_environment
    }

    /// Whether signals are for the tasks of a step: its processes, or those that the stage itself has `srun` start, which a
    /// signal would have kill them before they can save.
    fn signals_tasks(&self) -> bool {
        let calls_srun = || !self.brings_environment && self.program.file_name() == Some("srun".as_ref());
        self.is_step() || (self.processes.is_none() && calls_srun())
    }

    /// On how many nodes its system starts a worker.
    fn workers(&self) -> u32 {
        if self.is_step() { 1 } else { self.nodes() }
    }

    /// Signals what was started.
    pub fn signal(&self, child: Pid, signal: Signal) {
        if self.signals_tasks() {
            step::signal(signal);
        }
        if !self.signals_tasks() || signal == Signal::KILL {
            // One that is gone has nothing more to be told.
            let _ = kill_process_group(child, signal);
        }
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

/// Begins anew in the environment that an attempt brings, where it brings one; what went wrong.
fn move_in(folder: &Path, job: &str) -> Option<Error> {
    let all = match environ::read(folder) {
        Ok(all) => all?,
        Err(e) => return Some(e),
    };
    let what = |source| Error::Start { what: "the job in its own environment".into(), source };
    let mut command = match std::env::current_exe() {
        Ok(runner) => Command::new(runner),
        Err(e) => return Some(what(e)),
    };
    Some(what(
        command
            .args([WORD.as_ref(), folder.as_os_str(), job.as_ref(), AT_HOME.as_ref()])
            .env_clear()
            .envs(all)
            .exec(),
    ))
}

/// Whether a job of an attempt has begun on some node.
pub fn has_begun(folder: &Path) -> bool {
    begun_path(folder).exists()
}

fn begun_path(folder: &Path) -> PathBuf {
    folder.join("begun")
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

/// Does the job whose attempt folder and name are the arguments. Returns the stage's exit code.
pub fn main(arguments: &[OsString]) -> u8 {
    let (folder, job, at_home) = match arguments {
        [folder, job] => (Path::new(folder), job, false),
        [folder, job, word] if word == AT_HOME => (Path::new(folder), job, true),
        _ => return 2,
    };
    let Some(job) = job.to_str().filter(|job| is_meant(folder, job)) else {
        crate::stderr::line(format_args!("{}", Error::NoWork(folder.into())));
        return NOT_STARTED;
    };
    if let Some(e) = (!at_home).then(|| move_in(folder, job)).flatten() {
        crate::stderr::line(format_args!("error: {e}"));
        return NOT_STARTED;
    }
    // Where the environment is gone, the job is over already.
    let spec = JobSpec::read(folder).filter(|spec| at_home || !spec.brings_environment);
    let done = spec.ok_or_else(|| Error::NoWork(folder.into())).and_then(|spec| {
        let mut signals = running::hear(&spec)?;
        if spec.workers() == 1 {
            return first(&spec, folder, job, None, &mut signals);
        }
        // A worker that waited finds the job over where the first of them ended it.
        let over = || !is_meant(folder, job) || Ended::read(folder, job).is_some_and(|ended| !ended.told);
        match nodes::arrive(folder, over, || running::is_told(&mut signals))? {
            Part::First(lead) => first(&spec, folder, job, Some(lead), &mut signals),
            Part::Other(node) => {
                let log = open_log(&spec)?;
                running::ranks_of(&spec, folder, &log, &node, &mut signals)
            }
            Part::None => Ok(NOT_STARTED),
        }
    });
    done.unwrap_or_else(|e| {
        crate::stderr::line(format_args!("error: {e}"));
        NOT_STARTED
    })
}

/// Whether a job of this name is that of the attempt: another runner may have given it up, and submitted it again.
fn is_meant(folder: &Path, job: &str) -> bool {
    Submission::read(folder).is_some_and(|submission| submission.name == job)
}

fn open_log(spec: &JobSpec) -> Result<File> {
    Ok(File::options().create(true).append(true).open(&spec.log).at("opening", &spec.log)?)
}

/// Does all that is to be done once for a job, and what belongs on this node. Returns the stage's exit code.
fn first(spec: &JobSpec, folder: &Path, job: &str, lead: Option<First>, signals: &mut Signals) -> Result<u8> {
    // The job may have been started before and taken off its node; it begins anew, with the stage's state.
    link::remove(&Ended::path(folder))?;
    link::remove(&ranks::failed_path(folder))?;
    link::remove(&spec.out)?;
    fs::create_dir_all(&spec.out).at("making", &spec.out)?;
    let log = open_log(spec)?;
    let again = has_begun(folder);
    fs::write(begun_path(folder), "").at("writing", &begun_path(folder))?;
    let patience = spec.timeout.map_or(GATHERING, |limit| GATHERING.min(Duration::from_secs_f64(limit)));
    let node = lead.map(|lead| lead.gather(spec.workers(), patience, || running::is_told(signals)));
    let ended = match node.transpose() {
        Ok(Some(None)) => Ok(Ended { code: TOLD, told: true, ..Ended::default() }),
        Ok(node) => running::stage(spec, folder, &log, again, node.flatten().as_ref(), signals),
        Err(e) => Err(e),
    };
    let ended = ended.unwrap_or_else(|e| {
        // The log is where a person looks.
        let _ = writeln!(&log, "error: {e}");
        Ended { code: NOT_STARTED, ..Ended::default() }
    });
    if is_meant(folder, job) {
        record::write(&Ended::path(folder), &Ended { job: job.into(), ..ended.clone() }, true)?;
    }
    if !ended.told {
        environ::clear(folder);
    }
    Ok(ended.code)
}

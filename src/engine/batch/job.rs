//! The part of a job on its node: it runs the stage, hands signals on, ends whatever is left, and writes the exit code.

use super::environ;
use super::slurm::step;
use super::submission::Submission;
use crate::cache::facts::Machine;
use crate::cache::failure::Change;
use crate::engine::contract::End;
use crate::engine::error::{Error, Result};
use crate::engine::private::{self, Words};
use crate::engine::ranks;
use crate::engine::steady::{self, Told};
use crate::engine::stop::{GRACE, ignored};
use crate::engine::supervise::{NOT_STARTED, apart, clear};
use crate::engine::usage;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper, wait};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use store::IoContext;
use store::statcache::StatCache;
use store::{link, record};
use study::Processes;

/// The hidden first argument that makes the runner the process of a job.
pub const WORD: &str = "__job";
/// The last word of a job that is in its own environment.
const AT_HOME: &str = "at-home";
/// How often signals, the time limit and the stage's end are looked at.
const TICK: Duration = Duration::from_millis(20);
/// How often a job that was told to stop looks whether it is to be killed.
const KILL_EVERY: Duration = Duration::from_millis(500);
/// By how many seconds Slurm may tell a job too early that its time ends.
const EARLY: f64 = 60.0;

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

    /// What is started on this node: the program, or what starts its ranks here or on all nodes.
    fn command(&self, folder: &Path) -> io::Result<Command> {
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
            Some((processes, cpus)) if processes.nodes > 1 => step::command(folder, processes, cpus)?,
            Some(_) => {
                let mut command = Command::new(runner()?);
                command.arg(ranks::WORD).arg(folder);
                command
            }
        })
    }

    /// Whether its processes are tasks of a step of the job, which only Slurm reaches.
    fn is_step(&self) -> bool {
        self.processes.is_some_and(|(processes, _)| processes.nodes > 1)
    }

    /// Signals what was started.
    fn signal(&self, child: Pid, signal: Signal) {
        if self.is_step() {
            step::signal(signal);
        }
        if !self.is_step() || signal == Signal::KILL {
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
    let meant = |job: &str| Submission::read(folder).is_some_and(|submission| submission.name == job);
    let Some(job) = job.to_str().filter(|job| meant(job)) else {
        // Another runner gave it up, and may have submitted it again.
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
        // The job may have been started before and taken off its node; it begins anew, with the stage's state.
        link::remove(&Ended::path(folder))?;
        link::remove(&ranks::failed_path(folder))?;
        link::remove(&spec.out)?;
        fs::create_dir_all(&spec.out).at("making", &spec.out)?;
        let log = File::options().create(true).append(true).open(&spec.log).at("opening", &spec.log)?;
        let again = has_begun(folder);
        fs::write(begun_path(folder), "").at("writing", &begun_path(folder))?;
        let ended = run(&spec, folder, &log, again).unwrap_or_else(|e| {
            // The log is where a person looks.
            let _ = writeln!(&log, "error: {e}");
            Ended { code: NOT_STARTED, ..Ended::default() }
        });
        if meant(job) {
            record::write(&Ended::path(folder), &Ended { job: job.into(), ..ended.clone() }, true)?;
        }
        if !ended.told {
            environ::clear(folder);
        }
        Ok(ended.code)
    });
    done.unwrap_or_else(|e| {
        crate::stderr::line(format_args!("error: {e}"));
        NOT_STARTED
    })
}

fn run(spec: &JobSpec, folder: &Path, log: &File, again: bool) -> Result<Ended> {
    let stats = StatCache::empty();
    let steady = match steady::on_node(&spec.parts, &stats) {
        Ok(steady) => steady,
        Err(stale) => return Ok(Ended { code: NOT_STARTED, stale, ..Ended::default() }),
    };
    tell(spec, again);
    let what = |source| Error::Start { what: spec.program.display().to_string(), source };
    // Some systems have signals of their own for a job whose time ends.
    let mut heard = vec![SIGCHLD, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU];
    if !ignored(SIGHUP) {
        heard.push(SIGHUP);
    }
    let mut signals = Signals::new(heard).map_err(what)?;
    set_child_subreaper(Some(getpid())).map_err(|e| what(e.into()))?;
    let mut command = spec.command(folder).map_err(what)?;
    command
        .current_dir(&spec.root)
        .env("PIPELINE_EVENTS", &spec.events)
        .env("PIPELINE_STATE", &spec.state)
        .stdin(Stdio::null())
        .stdout(log.try_clone().at("opening", &spec.log)?)
        .stderr(log.try_clone().at("opening", &spec.log)?);
    // What was said to sbatch came with the job, and is not the stage's.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SBATCH_")) {
        command.env_remove(name);
    }
    apart(&mut command);
    let started = Instant::now();
    let child = Pid::from_child(&command.spawn().map_err(what)?);
    let (mut told, mut killed, mut late, mut asked) = (false, false, None::<Instant>, started);
    loop {
        for signal in signals.pending() {
            if signal != SIGCHLD && !told {
                told = true;
                spec.signal(child, Signal::TERM);
            }
        }
        let limit = spec.timeout.is_some_and(|limit| started.elapsed().as_secs_f64() > limit);
        match late {
            None if limit => {
                late = Some(Instant::now());
                spec.signal(child, Signal::TERM);
            }
            Some(at) if at.elapsed() > GRACE && !killed => {
                killed = true;
                spec.signal(child, Signal::KILL);
            }
            _ => {}
        }
        if told && !killed && asked.elapsed() > KILL_EVERY {
            asked = Instant::now();
            if kill_path(folder).exists() {
                killed = true;
                spec.signal(child, Signal::KILL);
            }
        }
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let code = status.exit_status().or(status.terminating_signal().map(|s| 128 + s));
            if let (true, Some(code)) = (pid == child, code) {
                let seconds = started.elapsed().as_secs_f64();
                clear(child);
                usage::write(&spec.events, Some(Machine::here()));
                // Slurm may tell a job a minute early.
                let at = spec.notice.filter(|_| told).map(|notice| (notice - EARLY).max(0.0));
                let limit = at.is_some_and(|at| seconds >= at);
                // Of a step, the code is the greatest of all nodes.
                let failed = ranks::failed(folder).filter(|_| !told && late.is_none());
                let code = failed.map_or(code as u8, |failed| failed.code);
                let ended =
                    Ended { code, seconds, told, timeout: late.is_some() || limit, ..Ended::default() };
                return Ok(Ended { disturbed: steady.end(), ..ended });
            }
        }
        std::thread::sleep(TICK);
    }
}

/// Says where the job runs, to whoever follows its events.
fn tell(spec: &JobSpec, again: bool) {
    let word = |name: &str| std::env::var(name).unwrap_or_default();
    let gpus = match word("CUDA_VISIBLE_DEVICES") {
        gpus if gpus.is_empty() => String::new(),
        gpus => format!(" with GPU {gpus}"),
    };
    let again = if again { " again" } else { "" };
    let node = match word("SLURMD_NODENAME") {
        node if node.is_empty() => fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default(),
        node => node,
    };
    let text = format!("runs{again} on {}{gpus}", node.trim());
    let line = serde_json::to_vec(&stage::Event::Message { text }).map(|mut line| {
        line.push(b'\n');
        line
    });
    let events = File::options().create(true).append(true).open(&spec.events);
    // Progress is for watching; the work does not need it.
    let _ = events.and_then(|mut file| file.write_all(&line?));
}

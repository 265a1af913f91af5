//! The part of a job on its node: it runs the stage, hands signals on, ends whatever is left, and writes the exit code.

use crate::cache::facts::Machine;
use crate::cache::failure::Change;
use crate::engine::contract::{End, GRACE};
use crate::engine::error::{Error, Result};
use crate::engine::ranks;
use crate::engine::slurm::step;
use crate::engine::steady::{self, Told};
use crate::engine::stop::ignored;
use crate::engine::supervise::{NOT_STARTED, apart, clear};
use crate::engine::usage;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper, wait};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use store::IoContext;
use store::statcache::StatCache;
use store::{link, record};
use study::Processes;

/// The hidden first argument that makes the runner the process of a job.
pub const WORD: &str = "__job";
/// How often signals, the time limit and the stage's end are looked at.
const TICK: Duration = Duration::from_millis(20);
/// By how many seconds Slurm may tell a job too early that its time ends.
const EARLY: f64 = 60.0;

/// `job.json` of an attempt: what the node needs to know. Variables come with the job: they may be secrets, which are
/// not to be stored.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobSpec {
    pub words: Vec<String>,
    pub program: PathBuf,
    /// What must be as it was when the job was submitted.
    pub parts: Vec<Told>,
    pub root: PathBuf,
    pub out: PathBuf,
    pub events: PathBuf,
    pub state: PathBuf,
    pub log: PathBuf,
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
                let mut command = Command::new(&self.program);
                command.args(&self.words[1..]);
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

    /// What the node wrote, if it has.
    pub fn read(folder: &Path) -> Option<Self> {
        record::read(&Self::path(folder))
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

/// Does the job whose attempt folder is the argument. Returns the stage's exit code.
pub fn main(arguments: &[OsString]) -> u8 {
    let [folder] = arguments else { return 2 };
    let folder = Path::new(folder);
    let done = JobSpec::read(folder).ok_or_else(|| Error::NoWork(folder.into())).and_then(|spec| {
        // The job may have been started before and taken off its node; it begins anew, with the stage's state.
        link::remove(&Ended::path(folder))?;
        link::remove(&ranks::failed_path(folder))?;
        link::remove(&spec.out)?;
        fs::create_dir_all(&spec.out).at("making", &spec.out)?;
        let log = File::options().create(true).append(true).open(&spec.log).at("opening", &spec.log)?;
        let ended = run(&spec, folder, &log).unwrap_or_else(|e| {
            // The log is where a person looks.
            let _ = writeln!(&log, "error: {e}");
            Ended { code: NOT_STARTED, ..Ended::default() }
        });
        record::write(&Ended::path(folder), &ended, true)?;
        Ok(ended.code)
    });
    done.unwrap_or_else(|e| {
        crate::stderr::line(format_args!("error: {e}"));
        NOT_STARTED
    })
}

fn run(spec: &JobSpec, folder: &Path, log: &File) -> Result<Ended> {
    let stats = StatCache::empty();
    let steady = match steady::on_node(&spec.parts, &stats) {
        Ok(steady) => steady,
        Err(stale) => return Ok(Ended { code: NOT_STARTED, stale, ..Ended::default() }),
    };
    tell(spec);
    let what = |source| Error::Start { what: spec.program.display().to_string(), source };
    let mut heard = vec![SIGCHLD, SIGINT, SIGTERM];
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
    let (mut told, mut killed, mut late) = (false, false, None::<Instant>);
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
fn tell(spec: &JobSpec) {
    let word = |name: &str| std::env::var(name).unwrap_or_default();
    let gpus = match word("CUDA_VISIBLE_DEVICES") {
        gpus if gpus.is_empty() => String::new(),
        gpus => format!(" with GPU {gpus}"),
    };
    let again = match word("SLURM_RESTART_COUNT").as_str() {
        "" | "0" => "",
        _ => " again",
    };
    let text = format!("runs{again} on {}{gpus}", word("SLURMD_NODENAME"));
    let line = serde_json::to_vec(&stage::Event::Message { text }).map(|mut line| {
        line.push(b'\n');
        line
    });
    let events = File::options().create(true).append(true).open(&spec.events);
    // Progress is for watching; the work does not need it.
    let _ = events.and_then(|mut file| file.write_all(&line?));
}

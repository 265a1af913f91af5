//! The stage of a job on its node, or those of its ranks that belong there, from the start to the end.

use super::nodes::Node;
use super::papers::{self, Ended, JobSpec};
use super::slurm::step;
use crate::cache::facts::Machine;
use crate::engine::error::{Error, Result};
use crate::engine::ranks;
use crate::engine::srun::Stopping;
use crate::engine::steady;
use crate::engine::stop::{GRACE, ignored};
use crate::engine::supervise::{NOT_STARTED, apart, clear, kill};
use crate::engine::usage;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
use signal_hook::iterator::Signals;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use store::IoContext;
use store::statcache::StatCache;

/// How often signals, the time limit and the stage's end are looked at.
const TICK: Duration = Duration::from_millis(20);
/// How often files are looked at that others write.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long ranks may take to end when another node failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// By how many seconds Slurm may tell a job too early that its time ends.
const EARLY: f64 = 60.0;

/// The signals of this process from now on. Some systems have signals of their own for a job whose time ends.
pub fn hear(spec: &JobSpec) -> Result<Signals> {
    let mut heard = vec![SIGCHLD, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU];
    if !ignored(SIGHUP) {
        heard.push(SIGHUP);
    }
    Signals::new(heard).map_err(|source| Error::Start { what: spec.program.display().to_string(), source })
}

/// Whether a signal came that tells the job to stop.
pub fn is_told(signals: &mut Signals) -> bool {
    signals.pending().any(|signal| signal != SIGCHLD)
}

/// Runs a stage; of several nodes, on the first.
pub fn stage(
    spec: &JobSpec,
    folder: &Path,
    log: &File,
    again: bool,
    node: Option<&Node>,
    signals: &mut Signals,
) -> Result<Ended> {
    let stats = StatCache::empty();
    let steady = match steady::on_node(&spec.parts, &stats) {
        Ok(steady) => steady,
        Err(stale) => return Ok(Ended { code: NOT_STARTED, stale, ..Ended::default() }),
    };
    tell(spec, node, again);
    let mut running = Running::start(spec, folder, log, node)?;
    let code = running.wait(signals, true);
    let seconds = running.started.elapsed().as_secs_f64();
    usage::write(&spec.events, Some(Machine::here()));
    let gone = running.wait_for_others(signals, code);
    if let Some(host) = &gone {
        let _ = writeln!(&*log, "error: {}", Error::NodeGone(host.clone()));
    }
    let Running { told, late, .. } = running;
    // Slurm may tell a job a minute early.
    let at = spec.notice.filter(|_| told).map(|notice| (notice - EARLY).max(0.0));
    let limit = at.is_some_and(|at| seconds >= at);
    // Of several nodes, the code is that of the rank that failed first.
    let failed = ranks::failed(folder).filter(|_| !told && late.is_none());
    let code = match (failed, &gone) {
        (Some(failed), _) => failed.code,
        (None, Some(_)) if code == 0 => NOT_STARTED,
        (None, _) => code,
    };
    // What becomes of a job that lost a node is for its system to say.
    let told = told || (gone.is_some() && failed.is_none());
    let ended = Ended { code, seconds, told, timeout: late.is_some() || limit, ..Ended::default() };
    Ok(Ended { disturbed: steady.end(), ..ended })
}

/// Runs the ranks of a node that is not the first. Returns the exit code of the first that failed here.
pub fn ranks_of(spec: &JobSpec, folder: &Path, log: &File, node: &Node, signals: &mut Signals) -> Result<u8> {
    let code = Running::start(spec, folder, log, Some(node)).map(|mut running| running.wait(signals, false));
    node.end();
    code
}

/// What was started on this node.
struct Running<'a> {
    spec: &'a JobSpec,
    folder: &'a Path,
    node: Option<&'a Node>,
    child: Pid,
    started: Instant,
    told: bool,
    /// Since when its time is over.
    late: Option<Instant>,
    /// Since when it cannot go on, as another node failed or is gone.
    lost: Option<Instant>,
    killed: bool,
    /// Tasks of the stage's own `srun` that were told to stop.
    stopping: Option<Stopping>,
    looked: Instant,
}

impl<'a> Running<'a> {
    fn start(spec: &'a JobSpec, folder: &'a Path, log: &File, node: Option<&'a Node>) -> Result<Self> {
        let what = |source| Error::Start { what: spec.program.display().to_string(), source };
        set_child_subreaper(Some(getpid())).map_err(|e| what(e.into()))?;
        let mut command = spec.command(folder, node).map_err(what)?;
        command
            .current_dir(&spec.root)
            .env("PIPELINE_EVENTS", &spec.events)
            .env("PIPELINE_STATE", &spec.state)
            .stdin(Stdio::null())
            .stdout(log.try_clone().at("opening", &spec.log)?)
            .stderr(log.try_clone().at("opening", &spec.log)?);
        // What was said to sbatch came with the job, and is not the stage's.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SBATCH_"))
        {
            command.env_remove(name);
        }
        apart(&mut command);
        let started = Instant::now();
        let child = Pid::from_child(&command.spawn().map_err(what)?);
        let (told, late, lost, killed, looked) = (false, None, None, false, started);
        let stopping = None;
        Ok(Self { spec, folder, node, child, started, told, late, lost, killed, stopping, looked })
    }

    /// Has it save and stop.
    fn stop(&mut self) {
        if self.spec.is_step() {
            step::signal(Signal::TERM);
        } else if self.stopping.is_none() {
            self.stopping = Stopping::begin(self.child);
        }
    }

    fn kill(&mut self) {
        if std::mem::replace(&mut self.killed, true) {
            return;
        }
        if self.spec.is_step() {
            step::signal(Signal::KILL);
            // One that is gone has nothing more to be told.
            let _ = kill_process_group(self.child, Signal::KILL);
        } else {
            kill(self.child);
        }
    }

    /// Waits for its end, and ends whatever is left. Returns its exit code, or 128 and the number of the signal. The first of
    /// several nodes keeps the time for all.
    fn wait(&mut self, signals: &mut Signals, keeps_time: bool) -> u8 {
        loop {
            self.listen(signals);
            let limit = self.spec.timeout.filter(|_| keeps_time);
            match self.late {
                None if limit.is_some_and(|limit| self.started.elapsed().as_secs_f64() > limit) => {
                    self.late = Some(Instant::now());
                    self.stop();
                    self.node.inspect(|node| node.tell());
                }
                Some(at) if at.elapsed() > GRACE => {
                    self.node.inspect(|_| papers::kill(self.folder));
                    self.kill();
                }
                _ => {}
            }
            self.stopping = self.stopping.take().filter(|stopping| !stopping.is_over());
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                let code = status.exit_status().or(status.terminating_signal().map(|s| 128 + s));
                if let (true, Some(code)) = (pid == self.child, code) {
                    clear(self.child);
                    // Those of another node may have been told, and this one not yet.
                    self.told |= self.late.is_none() && self.node.is_some_and(Node::told);
                    return code as u8;
                }
            }
            std::thread::sleep(TICK);
        }
    }

    /// Hands on what others say to the stage.
    fn listen(&mut self, signals: &mut Signals) {
        if is_told(signals) && !std::mem::replace(&mut self.told, true) {
            self.stop();
            self.node.inspect(|node| node.tell());
        }
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        if let Some(node) = self.node {
            if !self.told && self.late.is_none() && node.told() {
                self.told = true;
                self.stop();
            }
            if self.lost.is_none() && (ranks::failed(self.folder).is_some() || node.gone().is_some()) {
                self.lost = Some(Instant::now());
                self.stop();
            }
            if self.lost.is_some_and(|since| since.elapsed() > PATIENCE) {
                self.kill();
            }
        }
        if self.told && papers::is_killed(self.folder) {
            self.kill();
        }
    }

    /// Waits until nothing runs on the other nodes any more. Returns the host of one that is gone.
    fn wait_for_others(&mut self, signals: &mut Signals, code: u8) -> Option<String> {
        let node = self.node?;
        let since = Instant::now();
        let patience = if self.told || self.late.is_some() { GRACE } else { 2 * PATIENCE };
        if code != 0 {
            // A rank that failed has said so to all; what started them may have failed itself.
            node.tell();
        }
        while !node.all_done() {
            if let Some(host) = node.gone() {
                return Some(host.into());
            }
            if is_told(signals) && !std::mem::replace(&mut self.told, true) {
                node.tell();
            }
            if code != 0 && since.elapsed() > patience {
                papers::kill(self.folder);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        None
    }
}

/// Says where the job runs, to whoever follows its events.
fn tell(spec: &JobSpec, several: Option<&Node>, again: bool) {
    let word = |name: &str| std::env::var(name).unwrap_or_default();
    let gpus = match word("CUDA_VISIBLE_DEVICES") {
        gpus if gpus.is_empty() => String::new(),
        gpus => format!(" with GPU {gpus}"),
    };
    let again = if again { " again" } else { "" };
    let node = match (several, word("SLURMD_NODENAME")) {
        (Some(several), _) => several.hosts(),
        (None, node) if node.is_empty() => store::process::host(),
        (None, node) => node,
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

//! Where an attempt is executed.

use crate::error::{IoContext, Result};
use crate::run::attempt::Attempt;
use crate::run::events::Note;
use crate::run::slurm::SLURM;
use crate::run::steady::{Part, Steady};
use crate::run::stop::Stop;
use crate::session::{Session, Unit};
use crate::store::lock::Lock;
use crate::study::cluster::EngineName;
use crate::study::graph::Step;
use rustix::process::{Pid, Signal, kill_process};
use std::process::Child;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// How often a time limit is looked at.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a stage that was asked to stop may take to save what can be resumed.
pub const GRACE: Duration = Duration::from_secs(30);

/// One attempt that is to be executed.
pub struct Work<'a> {
    pub session: &'a Session,
    pub unit: &'a Unit,
    pub attempt: &'a Attempt,
    /// What it runs and reads of the study.
    pub parts: &'a [Part],
    /// The action's lock, to be held by whatever runs.
    pub lock: &'a Lock,
    /// GPUs that the attempt may use.
    pub gpus: &'a [String],
    pub stop: &'a Stop,
    /// Where a line for people goes.
    pub feed: &'a Sender<Note>,
}

impl Work<'_> {
    /// The step that the attempt is of.
    pub fn step(&self) -> &Step {
        &self.session.graph.steps[self.unit.step]
    }
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It was not started, as these parts are no longer what its key says.
    Stale(Vec<String>),
    /// Exit 0, but these files were written while it ran.
    Disturbed(Vec<String>),
    /// Exit 0 after so many seconds.
    Success(f64),
    Exit(u8),
    Signal(u8),
    Timeout,
    Stopped,
}

/// A place where attempts are executed.
pub trait Engine: Sync {
    /// Executes an attempt to its end, or until it was asked to stop and has stopped.
    fn execute(&self, work: &Work) -> Result<End>;
}

/// The engine of a step.
pub fn of(step: &Step) -> &'static dyn Engine {
    match step.engine {
        EngineName::Local => &Local,
        EngineName::Slurm => &*SLURM,
    }
}

/// A process of this machine.
struct Local;

impl Engine for Local {
    fn execute(&self, work: &Work) -> Result<End> {
        let (step, session) = (work.step(), work.session);
        let program = session.programs[work.unit.step].as_ref().map(|p| p.path.clone()).unwrap_or_default();
        let steady = match Steady::begin(work.parts, &session.store.stats) {
            Ok(steady) => steady,
            Err(names) => return Ok(End::Stale(names)),
        };
        let started = Instant::now();
        let mut child = work.attempt.start(step, &session.graph.root, &program, work.lock, work.gpus)?;
        let pid = Pid::from_child(&child);
        work.stop.add(pid);
        let waited = wait(&mut child, pid, step.timeout);
        work.stop.remove(pid);
        let (status, timeout) = waited.at("waiting for", &work.attempt.log)?;
        Ok(match status.code() {
            Some(0) => {
                let seconds = started.elapsed().as_secs_f64();
                match steady.end() {
                    none if none.is_empty() => End::Success(seconds),
                    names => End::Disturbed(names),
                }
            }
            _ if work.stop.asked() => End::Stopped,
            _ if timeout => End::Timeout,
            Some(code @ 129..) => End::Signal((code - 128) as u8),
            Some(code) => End::Exit(code as u8),
            None => End::Signal(9),
        })
    }
}

/// Waits for the supervisor; after the time limit the stage is asked to stop, and killed when it does not.
fn wait(
    child: &mut Child,
    pid: Pid,
    limit: Option<Duration>,
) -> std::io::Result<(std::process::ExitStatus, bool)> {
    let Some(limit) = limit else { return Ok((child.wait()?, false)) };
    let started = Instant::now();
    let mut asked = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, asked.is_some()));
        }
        match asked {
            None if started.elapsed() > limit => {
                asked = Some(Instant::now());
                let _ = kill_process(pid, Signal::TERM);
            }
            Some(at) if at.elapsed() > GRACE => {
                let _ = kill_process(pid, Signal::QUIT);
            }
            _ => {}
        }
        std::thread::sleep(PAUSE);
    }
}

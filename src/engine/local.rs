//! Attempts as processes of this machine.

use crate::engine::contract::{End, Work};
use crate::engine::error::{Error, Result};
use crate::engine::steady::Steady;
use crate::engine::stop::{GRACE, Stop};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Child;
use std::time::Duration;
use store::IoContext;

/// How often a time limit is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// Executes an attempt to its end, or until it was asked to stop and has stopped.
pub fn execute(work: &Work) -> Result<End> {
    let (step, session) = (work.step(), work.session);
    if let Some(nodes) = step.processes.map(|p| p.nodes).filter(|nodes| *nodes > 1) {
        return Err(Error::Nodes { stage: step.stage.clone(), nodes });
    }
    let program = session.programs[work.task.step].as_ref().map(|p| p.path.clone()).unwrap_or_default();
    let steady = match Steady::begin(work.parts, &session.store.stats) {
        Ok(steady) => steady,
        Err(names) => return Ok(End::Stale(names)),
    };
    let started = work.stop.clock();
    let start = || work.attempt.start(step, &session.graph.root, &program, work.lock, work.gpus);
    let (mut child, pid) = work.stop.begin(start)?;
    let waited = wait(&mut child, pid, step.timeout, work.stop);
    work.stop.remove(pid);
    let (status, timeout) = waited.at("waiting for", &work.attempt.log)?;
    Ok(match status.code() {
        Some(0) => {
            let seconds = (work.stop.clock() - started).as_secs_f64();
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

/// Waits for the supervisor; after the time limit (time in which it was halted does not count) the stage is asked to stop, and killed when it does not.
fn wait(
    child: &mut Child,
    pid: Pid,
    limit: Option<Duration>,
    stop: &Stop,
) -> std::io::Result<(std::process::ExitStatus, bool)> {
    let Some(limit) = limit else { return Ok((child.wait()?, false)) };
    let started = stop.clock();
    let mut asked = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, asked.is_some()));
        }
        match asked {
            None if stop.clock() - started > limit => {
                asked = Some(stop.clock());
                let _ = kill_process(pid, Signal::TERM);
            }
            Some(at) if stop.clock() - at > GRACE => {
                let _ = kill_process(pid, Signal::QUIT);
            }
            _ => {}
        }
        std::thread::sleep(PAUSE);
    }
}

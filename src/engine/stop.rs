//! The wish to stop.

use crate::engine::error::{Error, Result};
use crate::stderr;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The wish to stop, and the processes it concerns.
#[derive(Debug, Default)]
pub struct Stop {
    /// 0 go on, 1 stop, 2 kill.
    level: AtomicU8,
    supervisors: Mutex<Vec<Pid>>,
}

impl Stop {
    /// A wish that SIGINT, SIGTERM and SIGHUP make. A SIGHUP that the caller ignores (`nohup`) stays ignored.
    pub fn on_signals() -> Result<Arc<Self>> {
        let mut heard = vec![SIGINT, SIGTERM];
        if !ignored(SIGHUP) {
            heard.push(SIGHUP);
        }
        let mut signals = Signals::new(heard).map_err(Error::Signals)?;
        let stop = Arc::new(Self::default());
        let asked = Arc::clone(&stop);
        std::thread::spawn(move || {
            for _ in signals.forever() {
                let first = !asked.asked();
                asked.ask();
                if first {
                    // On a thread of its own: a reader that is there and does not read must not keep the next signal.
                    let tell =
                        || stderr::line("stopping: the stages save what they can; once more kills them");
                    let _ = std::thread::Builder::new().spawn(tell);
                }
            }
        });
        Ok(stop)
    }

    /// Whether anybody asked.
    pub fn asked(&self) -> bool {
        self.level() > 0
    }

    /// 0 go on, 1 save and stop, 2 be gone.
    pub fn level(&self) -> u8 {
        self.level.load(Ordering::SeqCst)
    }

    /// The first time stages are asked to save and stop, the second time they are killed.
    pub fn ask(&self) {
        let supervisors = self.supervisors.lock().unwrap_or_else(PoisonError::into_inner);
        let level = self.level.load(Ordering::SeqCst).saturating_add(1).min(2);
        self.level.store(level, Ordering::SeqCst);
        let signal = if level == 1 { Signal::TERM } else { Signal::QUIT };
        for pid in &*supervisors {
            let _ = kill_process(*pid, signal);
        }
    }

    /// A process that is to be told.
    pub fn add(&self, pid: Pid) {
        let mut supervisors = self.supervisors.lock().unwrap_or_else(PoisonError::into_inner);
        supervisors.push(pid);
        if self.asked() {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// It is gone.
    pub fn remove(&self, pid: Pid) {
        self.supervisors.lock().unwrap_or_else(PoisonError::into_inner).retain(|p| *p != pid);
    }
}

/// Whether a signal is ignored, as whoever started this process wanted it.
pub fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}

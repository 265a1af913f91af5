//! The wish to stop.

use rustix::process::{Pid, Signal, kill_process};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

/// The wish to stop, and the processes it concerns.
#[derive(Debug, Default)]
pub struct Stop {
    /// 0 go on, 1 stop, 2 kill.
    level: AtomicU8,
    supervisors: Mutex<Vec<Pid>>,
}

impl Stop {
    /// Whether anybody asked.
    pub fn asked(&self) -> bool {
        self.level.load(Ordering::SeqCst) > 0
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

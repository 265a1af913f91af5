//! The wish to stop.

use crate::engine::error::{Error, Result};
use crate::stderr;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use std::process::Child;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a stage that was asked to stop may take to save what can be resumed.
pub const GRACE: Duration = Duration::from_secs(30);

/// The wish to stop, and the processes it concerns.
#[derive(Debug, Default)]
pub struct Stop {
    /// 0 go on, 1 stop, 2 kill.
    level: AtomicU8,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    supervisors: Vec<Pid>,
    /// Since when this process and the stages are halted (Ctrl-Z).
    halted: Option<Instant>,
    /// How long they were before.
    rested: Duration,
}

/// Where [`Stop::clock`] begins.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Stop {
    /// A wish that SIGINT, SIGTERM and SIGHUP make. A SIGHUP that the caller ignores (`nohup`) stays ignored.
    pub fn on_signals() -> Result<Arc<Self>> {
        let mut heard = vec![SIGINT, SIGTERM];
        heard.extend([SIGHUP, SIGTSTP].into_iter().filter(|signal| !ignored(*signal)));
        let mut signals = Signals::new(heard).map_err(Error::Signals)?;
        let stop = Arc::new(Self::default());
        let asked = Arc::clone(&stop);
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if signal == SIGTSTP {
                    asked.halt();
                    continue;
                }
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
        let watched = self.watched();
        let level = self.level.load(Ordering::SeqCst).saturating_add(1).min(2);
        self.level.store(level, Ordering::SeqCst);
        watched.tell(if level == 1 { Signal::TERM } else { Signal::QUIT });
    }

    /// Starts a process that is to be told. Nothing is started between a signal and its being handed on.
    pub fn begin<E>(&self, start: impl FnOnce() -> Result<Child, E>) -> Result<(Child, Pid), E> {
        let mut watched = self.watched();
        let child = start()?;
        let pid = Pid::from_child(&child);
        watched.supervisors.push(pid);
        if self.asked() {
            let _ = kill_process(pid, Signal::TERM);
        }
        Ok((child, pid))
    }

    /// It is gone.
    pub fn remove(&self, pid: Pid) {
        self.watched().supervisors.retain(|p| *p != pid);
    }

    /// The time since some moment, without that in which this process and the stages were halted.
    pub fn clock(&self) -> Duration {
        let watched = self.watched();
        let now = watched.halted.unwrap_or_else(Instant::now);
        now.saturating_duration_since(*ORIGIN).saturating_sub(watched.rested)
    }

    /// Halts the stages and then this process, as Ctrl-Z asks; goes on with both when somebody says so (`fg`, `bg`).
    fn halt(&self) {
        {
            let mut watched = self.watched();
            watched.halted = Some(Instant::now());
            watched.tell(Signal::TSTP);
        }
        // The kernel's own answer to the signal, which is none where no shell could ever continue this process.
        // SAFETY: only this thread handles signals, and changes what becomes of this one. `raise` signals this thread, so
        // that the process is halted before it returns.
        unsafe {
            let ours = libc::signal(SIGTSTP, libc::SIG_DFL);
            libc::raise(SIGTSTP);
            libc::signal(SIGTSTP, ours);
        }
        let mut watched = self.watched();
        let halted = watched.halted.take().map(|at| at.elapsed()).unwrap_or_default();
        watched.rested += halted;
        watched.tell(Signal::CONT);
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn tell(&self, signal: Signal) {
        for pid in &self.supervisors {
            let _ = kill_process(*pid, signal);
        }
    }
}

/// Whether a signal is ignored, as whoever started this process wanted it.
pub fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}

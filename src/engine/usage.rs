//! What an attempt took: written by the process that watches over it, where it ran, and read by the runner.

use crate::cache::facts::Machine;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use store::record;

/// What an attempt took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// The most memory that one of its processes held, bytes.
    pub peak_memory: u64,
    /// Where that was, when it was not the runner's own machine.
    pub machine: Option<Machine>,
}

/// Beside the file of an attempt's events.
fn path(events: &Path) -> PathBuf {
    events.with_extension("usage")
}

/// Notes what the processes took that this one has waited for. They are over: nobody needs it as much as they did, so it is
/// not told of when it cannot be written.
pub fn write(events: &Path, machine: Option<Machine>) {
    let usage = Usage { peak_memory: peak_of_children(), machine };
    let _ = record::write(&path(events), &usage, false);
}

/// What was noted of an attempt. It is no longer there afterwards, for the next one.
pub fn take(events: &Path) -> Option<Usage> {
    let path = path(events);
    let usage = record::read(&path);
    let _ = std::fs::remove_file(&path);
    usage
}

fn peak_of_children() -> u64 {
    // SAFETY: the structure is plain numbers, for which zeroes are values, and the call writes nothing else.
    let (failed, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage), usage)
    };
    if failed == 0 { usage.ru_maxrss as u64 * 1024 } else { 0 }
}

//! The processes below this one.

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};
use std::time::Duration;

/// How often the tree is looked at until all of it is halted, and how long between.
const LOOKS: usize = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// Signals every descendant of this process, also those in groups and sessions of their own. To halt takes several looks: a
/// process may start another before the signal reaches it, and the kernel's list may leave one out while another ends.
pub fn tell_all(signal: Signal) {
    for _ in 0..LOOKS {
        let mut open = vec![getpid()];
        let mut before = true;
        while let Some(parent) = open.pop() {
            for pid in children(parent) {
                before &= halted(pid);
                let _ = kill_process(pid, signal);
                open.push(pid);
            }
        }
        if signal != Signal::STOP || before {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// The processes of a name that are not below another of that name, and those between this process and them, which are halted:
/// from now on they start nothing more.
pub fn halt_above(name: &str) -> (Vec<Pid>, Vec<Pid>) {
    let mut last = (Vec::new(), Vec::new());
    for _ in 0..LOOKS {
        last = above(name);
        let before = last.1.iter().all(|pid| halted(*pid));
        for pid in &last.1 {
            let _ = kill_process(*pid, Signal::STOP);
        }
        if before {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    last
}

/// The same, halted or not.
fn above(name: &str) -> (Vec<Pid>, Vec<Pid>) {
    let (mut named, mut between) = (Vec::new(), Vec::<Pid>::new());
    let mut open: Vec<Vec<Pid>> = vec![vec![]];
    while let Some(path) = open.pop() {
        for pid in children(path.last().copied().unwrap_or_else(getpid)) {
            if is(pid, name) {
                named.push(pid);
                between.extend(&path);
            } else {
                open.push([&*path, &[pid]].concat());
            }
        }
    }
    between.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
    between.dedup();
    (named, between)
}

/// Whether a process lives and runs a program of this name.
pub fn is(pid: Pid, name: &str) -> bool {
    let stat = stat(pid);
    let named = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") "));
    named.is_some_and(|(is, rest)| is == name && !rest.starts_with(['Z', 'X']))
}

/// Whether a process is halted, or over. One that the kernel holds (`D`: it waits for a child that was halted before it could
/// begin its program) halts before it does anything else.
fn halted(pid: Pid) -> bool {
    stat(pid).rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['D', 'T', 't', 'Z', 'X']))
}

fn stat(pid: Pid) -> String {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default()
}

/// The children of a process, of all its threads.
fn children(parent: Pid) -> Vec<Pid> {
    let tasks = format!("/proc/{}/task", parent.as_raw_nonzero());
    let lists = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    let lists = lists.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| pids(&list)).collect()
}

fn pids(list: &str) -> Vec<Pid> {
    list.split_whitespace().filter_map(|p| Pid::from_raw(p.parse().ok()?)).collect()
}

/// Kills every child of this process, and every orphan that came to it, until none is left.
pub fn end_children() {
    let own = getpid().as_raw_nonzero();
    loop {
        let list = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        for pid in pids(&list) {
            let _ = kill_process(pid, Signal::KILL);
        }
        // Blocks until one of them is gone; an error says that there is no child left.
        if wait(WaitOptions::empty()).is_err() {
            return;
        }
    }
}

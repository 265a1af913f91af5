//! What the machine has to give to tasks, as plain numbers: places, cores, memory, GPUs by index.

use std::collections::BTreeSet;

/// All that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Tasks at the same time.
    pub jobs: usize,
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    pub gpus: usize,
    /// GPUs are handed out from the highest index down.
    pub gpus_from_top: bool,
}

/// What a task asks for beside its place. What runs elsewhere asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    pub gpus: usize,
}

/// What a running task holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    cpus: u32,
    memory: u64,
    /// Indices among the GPUs of the machine.
    pub gpus: Vec<usize>,
}

/// What is free.
#[derive(Debug)]
pub struct Slots {
    whole: Capacity,
    jobs: usize,
    cpus: u32,
    memory: u64,
    gpus: BTreeSet<usize>,
}

impl Slots {
    /// All of it is free.
    pub fn new(whole: Capacity) -> Self {
        let gpus = (0..whole.gpus).collect();
        Self { whole, jobs: whole.jobs, cpus: whole.cpus, memory: whole.memory, gpus }
    }

    /// Whether there is ever room for it. More cores or memory than there are means all of them.
    pub fn may_ever_fit(&self, request: &Request) -> bool {
        request.gpus <= self.whole.gpus
    }

    /// Takes what is asked for, if it is free.
    pub fn take(&mut self, request: &Request) -> Option<Held> {
        let cpus = request.cpus.min(self.whole.cpus);
        let memory = request.memory.min(self.whole.memory);
        if self.jobs == 0 || cpus > self.cpus || memory > self.memory || request.gpus > self.gpus.len() {
            return None;
        }
        self.jobs -= 1;
        self.cpus -= cpus;
        self.memory -= memory;
        let next = |free: &mut BTreeSet<usize>| match self.whole.gpus_from_top {
            true => free.pop_last(),
            false => free.pop_first(),
        };
        let mut gpus: Vec<usize> = (0..request.gpus).filter_map(|_| next(&mut self.gpus)).collect();
        gpus.sort_unstable();
        Some(Held { cpus, memory, gpus })
    }

    /// Gives it back.
    pub fn give_back(&mut self, held: Held) {
        self.jobs += 1;
        self.cpus += held.cpus;
        self.memory += held.memory;
        self.gpus.extend(held.gpus);
    }

    /// Whether nobody holds anything.
    #[cfg(test)]
    pub fn all_free(&self) -> bool {
        self.jobs == self.whole.jobs
            && self.cpus == self.whole.cpus
            && self.memory == self.whole.memory
            && self.gpus.len() == self.whole.gpus
    }
}

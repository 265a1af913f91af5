//! What the machine has to give to stages: cores, memory, GPUs by index.

use crate::error::{Error, Result};
use std::fs;
use study::file::EngineName;
use study::graph::Step;

/// What is free.
#[derive(Debug)]
pub struct Slots {
    jobs: usize,
    cpus: u32,
    memory: u64,
    gpus: Vec<String>,
    /// The last of them are handed out first.
    gpus_from_top: bool,
    whole: Whole,
}

#[derive(Clone, Copy, Debug)]
struct Whole {
    cpus: u32,
    memory: u64,
    gpus: usize,
}

/// What a running stage holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    cpus: u32,
    memory: u64,
    /// GPUs as `CUDA_VISIBLE_DEVICES` names them.
    pub gpus: Vec<String>,
}

impl Slots {
    /// The whole machine, for at most `jobs` stages at a time.
    pub fn of_machine(jobs: Option<usize>, gpus_from_top: bool) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let gpus = gpus();
        let whole = Whole { cpus, memory: memory(), gpus: gpus.len() };
        Self { jobs: jobs.unwrap_or(usize::MAX), cpus, memory: whole.memory, gpus, gpus_from_top, whole }
    }

    /// Refuses a step that can never run here.
    pub fn check(&self, step: &Step) -> Result<()> {
        if step.engine == EngineName::Slurm {
            return Ok(());
        }
        let (asked, there) = (step.resources.gpus as usize, self.whole.gpus);
        if asked > there {
            let text = format!("stage {} asks for {asked} GPUs; this machine has {there}", step.stage);
            return Err(Error::study(&step.mark, text));
        }
        Ok(())
    }

    /// Takes what a step asks for, if it is free. More cores or memory than there are means all of them.
    /// What runs on a cluster takes nothing of this machine.
    pub fn take(&mut self, step: &Step) -> Option<Held> {
        if step.engine == EngineName::Slurm {
            self.jobs = self.jobs.checked_sub(1)?;
            return Some(Held { cpus: 0, memory: 0, gpus: Vec::new() });
        }
        let cpus = step.resources.cpus.unwrap_or(1).min(self.whole.cpus);
        let memory = step.resources.memory.0.min(self.whole.memory);
        let gpus = step.resources.gpus as usize;
        if self.jobs == 0 || cpus > self.cpus || memory > self.memory || gpus > self.gpus.len() {
            return None;
        }
        let rest = self.gpus.len() - gpus;
        let range = if self.gpus_from_top { rest..rest + gpus } else { 0..gpus };
        self.jobs -= 1;
        self.cpus -= cpus;
        self.memory -= memory;
        Some(Held { cpus, memory, gpus: self.gpus.drain(range).collect() })
    }

    /// Gives it back.
    pub fn give_back(&mut self, held: Held) {
        self.jobs += 1;
        self.cpus += held.cpus;
        self.memory += held.memory;
        self.gpus.extend(held.gpus);
        self.gpus.sort();
    }
}

/// Bytes of memory: the machine's, or the limit of our control group where that is less.
fn memory() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|t| t.trim().parse().ok());
    total.map_or(u64::MAX, |kib| kib * 1024).min(limit.unwrap_or(u64::MAX))
}

/// The GPUs we may use: those an outer `CUDA_VISIBLE_DEVICES` names, else all.
fn gpus() -> Vec<String> {
    if let Ok(outer) = std::env::var("CUDA_VISIBLE_DEVICES") {
        return outer
            .split(',')
            .map(|g| g.trim().to_string())
            .filter(|g| !g.is_empty() && g != "-1")
            .collect();
    }
    let Ok(devices) = fs::read_dir("/dev") else { return Vec::new() };
    let names = devices.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let mut numbers: Vec<u32> = names.filter_map(|n| n.strip_prefix("nvidia")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.iter().map(ToString::to_string).collect()
}

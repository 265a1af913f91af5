//! What this machine has to give to stages.

use crate::error::{Error, Result};
use crate::run::scheduler::{Capacity, Request};
use std::fs;
use study::Processes;
use study::file::EngineName;
use study::graph::Step;

/// What there is, and the GPUs as `CUDA_VISIBLE_DEVICES` names them.
pub struct Machine {
    pub capacity: Capacity,
    pub gpus: Vec<String>,
}

impl Machine {
    /// The whole machine, for at most `jobs` tasks at a time.
    pub fn whole(jobs: Option<usize>, gpus_from_top: bool) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let gpus = gpus();
        let jobs = jobs.unwrap_or(usize::MAX);
        Self { capacity: Capacity { jobs, cpus, memory: memory(), gpus: gpus.len(), gpus_from_top }, gpus }
    }

    /// Refuses a step that can never run here.
    pub fn check(&self, step: &Step) -> Result<()> {
        if let (EngineName::Local, Some(processes @ Processes { nodes: 2.., .. })) =
            (step.engine, step.processes)
        {
            let text = format!(
                "stage {} asks for {} nodes, and this machine is one: `--set {}.processes={}`, or `engine: slurm`",
                step.stage,
                processes.nodes,
                step.stage,
                processes.total()
            );
            return Err(Error::study(&step.mark, text));
        }
        let (asked, there) = (request(step).gpus, self.gpus.len());
        if asked > there {
            let text = format!("stage {} asks for {asked} GPUs; this machine has {there}", step.stage);
            return Err(Error::study(&step.mark, text));
        }
        Ok(())
    }
}

/// What a task of a step takes of this machine; what runs on a cluster takes nothing.
pub fn request(step: &Step) -> Request {
    match step.engine {
        EngineName::Slurm | EngineName::Cluster => Request::default(),
        EngineName::Local => {
            let processes = Processes::of(step.processes);
            Request {
                cpus: step.resources.cpus.unwrap_or(1).saturating_mul(processes),
                memory: step.resources.memory.0.saturating_mul(processes.into()),
                gpus: step.resources.gpus.saturating_mul(processes) as usize,
            }
        }
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

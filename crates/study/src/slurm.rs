//! What a study says of where its stages run.

use crate::de::Marked;
use crate::error::{Error, Result};
use crate::file::{SlurmKeys, Stage};
use std::time::Duration;

/// What `sbatch` is told of one stage, with the study's own in the place of what it leaves out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slurm {
    pub partition: Option<String>,
    pub account: Option<String>,
    pub time: Option<Duration>,
    pub options: Vec<String>,
    pub interval: Duration,
    /// Jobs that are with Slurm at a time.
    pub max_submitted: Option<usize>,
}

/// Options that the runner itself gives; another value would make it lose its jobs.
const OURS: [&str; 13] = [
    "--array",
    "--chdir",
    "--error",
    "--export",
    "--input",
    "--job-name",
    "--open-mode",
    "--output",
    "--parsable",
    "--requeue",
    "--test-only",
    "--wait",
    "--wrap",
];

/// How many processes there are, and where, is the study's to say in one place only.
const SHAPE: [&str; 6] = [
    "--nodes",
    "--ntasks",
    "--ntasks-per-node",
    "--ntasks-per-core",
    "--ntasks-per-gpu",
    "--ntasks-per-socket",
];

/// Puts a stage's keys over the study's.
///
/// # Errors
/// A mistake when an option says again, or otherwise, what the runner tells sbatch.
pub fn slurm(study: &SlurmKeys, stage: &Stage) -> Result<Slurm> {
    let (resources, several, stage) = (&stage.resources, stage.processes.is_some(), &stage.slurm);
    for option in study.options.iter().chain(&stage.options) {
        let name = option.split('=').next().unwrap_or_default();
        if !name.starts_with("--") || name.len() < 3 {
            let text = format!("`{}` is no long option of sbatch, such as `--constraint=a100`", **option);
            return Err(Error::mistake(&option.mark, text));
        }
        if OURS.contains(&name) {
            return Err(Error::mistake(&option.mark, format!("`{name}` is given by the runner itself")));
        }
        if SHAPE.contains(&name) {
            let text = format!(
                "`{name}` is given by the runner itself; say `processes: N` or `processes: {{nodes: 2, per-node: 8}}`"
            );
            return Err(Error::mistake(&option.mark, text));
        }
        let given = |key: &'static str, is: bool| is.then_some(key);
        let again = match name {
            "--cpus-per-task" => given("resources.cpus", several || resources.cpus.is_some()),
            "--mem" | "--mem-per-cpu" | "--mem-per-gpu" => given("resources.memory", resources.memory.0 > 0),
            "--gpus" | "--gpus-per-node" | "--gpus-per-task" | "--gpus-per-socket" => {
                given("resources.gpus", several || resources.gpus > 0)
            }
            "--gres" if option.contains("gpu") => given("resources.gpus", several || resources.gpus > 0),
            "--time" => given("slurm.time", stage.time.or(study.time).is_some()),
            "--partition" => given("slurm.partition", stage.partition.is_some() || study.partition.is_some()),
            "--account" => given("slurm.account", stage.account.is_some() || study.account.is_some()),
            _ => None,
        };
        if let Some(key) = again {
            let text = format!("`{name}` says what `{key}` says; keep one of them, `{key}`");
            return Err(Error::mistake(&option.mark, text));
        }
    }
    let text = |own: &Option<Marked<String>>, all: &Option<Marked<String>>| {
        own.as_ref().or(all.as_ref()).map(|text| text.value.clone())
    };
    Ok(Slurm {
        partition: text(&stage.partition, &study.partition),
        account: text(&stage.account, &study.account),
        time: stage.time.or(study.time).map(|t| t.0),
        options: study.options.iter().chain(&stage.options).map(|o| o.value.clone()).collect(),
        interval: stage.interval.or(study.interval).map_or(Duration::from_secs(5), |t| t.0),
        max_submitted: submitted(stage.max_submitted.as_ref().or(study.max_submitted.as_ref()))?,
    })
}

/// The greatest number of jobs, which is one at least.
fn submitted(most: Option<&Marked<u32>>) -> Result<Option<usize>> {
    match most {
        Some(most) if **most == 0 => {
            Err(Error::mistake(&most.mark, "with `max-submitted: 0` no job could ever be submitted"))
        }
        most => Ok(most.map(|most| **most as usize)),
    }
}

//! What a study says of where its stages run.

use crate::error::{Error, Result};
use crate::study::de::Marked;
use crate::study::file::Time;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// Where stages run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EngineName {
    /// This machine.
    #[default]
    Local,
    /// A Slurm cluster.
    Slurm,
}

/// What `sbatch` is told beside a stage's resources.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct SlurmKeys {
    /// Partition. Default: the cluster's.
    pub partition: Option<Marked<String>>,
    /// Account that pays.
    pub account: Option<Marked<String>>,
    /// Longest time of the job, as `30m`, `2h`. Default: the stage's `timeout` and two minutes, else the partition's.
    pub time: Option<Time>,
    /// Further options of sbatch, as `--constraint=a100`.
    pub options: Vec<Marked<String>>,
    /// How often squeue is asked about all jobs together. Default `5s`.
    pub interval: Option<Time>,
}

/// The same for one stage, with the study's own in the place of what it leaves out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slurm {
    pub partition: Option<String>,
    pub account: Option<String>,
    pub time: Option<Duration>,
    pub options: Vec<String>,
    pub interval: Duration,
}

/// Options that the runner itself gives; another value would make it lose its jobs.
const OURS: [&str; 12] = [
    "--array",
    "--chdir",
    "--error",
    "--export",
    "--input",
    "--job-name",
    "--ntasks",
    "--output",
    "--parsable",
    "--test-only",
    "--wait",
    "--wrap",
];

/// Puts a stage's keys over the study's.
pub fn slurm(study: &SlurmKeys, stage: &SlurmKeys) -> Result<Slurm> {
    for option in study.options.iter().chain(&stage.options) {
        let name = option.split('=').next().unwrap_or_default();
        if !name.starts_with("--") || name.len() < 3 {
            let text = format!("`{}` is no long option of sbatch, such as `--constraint=a100`", **option);
            return Err(Error::study(&option.mark, text));
        }
        if OURS.contains(&name) {
            return Err(Error::study(&option.mark, format!("`{name}` is given by the runner itself")));
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
    })
}

//! What a study says of where its stages run.

use crate::de::Marked;
use crate::error::{Error, Result};
use crate::file::SlurmKeys;
use std::time::Duration;

/// What `sbatch` is told of one stage, with the study's own in the place of what it leaves out.
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
            return Err(Error::mistake(&option.mark, text));
        }
        if OURS.contains(&name) {
            return Err(Error::mistake(&option.mark, format!("`{name}` is given by the runner itself")));
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

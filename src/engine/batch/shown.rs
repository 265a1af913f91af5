//! What a batch system would be told of a step, for people who check a study.

use super::cluster::submit::{Values, value};
use super::slurm;
use crate::text::shown as quoted;
use std::path::Path;
use study::file::EngineName;
use study::graph::Step;

/// What would be sent for a job of a step; `None` where it runs here.
pub fn shown(step: &Step, study: &str, root: &Path) -> Option<String> {
    let folder = root.join(".pipeline/attempts/KEY");
    let name = format!("{study}.{}.ID", step.stage);
    match (step.engine, &step.cluster) {
        (EngineName::Slurm, _) => {
            let words = slurm::options(step, root, &name, &[(0, &folder)]);
            Some(format!("sbatch {}", quoted(&words)))
        }
        (EngineName::Cluster, Some(cluster)) => {
            let (worker, log) = (folder.join(format!("{name}.worker")), folder.join("job.out"));
            let values = Values { name: &name, worker: &worker, log: &log, root, tasks: 0 };
            Some(cluster.shown(|place| value(cluster, step, &values, place)))
        }
        _ => None,
    }
}

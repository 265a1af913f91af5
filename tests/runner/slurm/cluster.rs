//! A real Slurm of four nodes on this machine, brought up for a test.

use crate::daemons::Daemons;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Cluster(pub Daemons);

impl Cluster {
    /// `None` where there is no Slurm, or nobody may start it.
    pub fn up() -> Option<Self> {
        let folders = std::env::var("PATH").unwrap_or_default();
        let found = |program: &str| {
            let mut all = folders.split(':').map(|folder| Path::new(folder).join(program));
            all.find(|path| path.exists()).unwrap_or_default()
        };
        let programs = ["slurmctld", "slurmd", "munged", "sbatch"].map(found);
        Daemons::up("slurm", &programs, 5, "the Slurm test needs root, slurm-wlm and munge").map(Self)
    }

    /// Its configuration, which `SLURM_CONF` names.
    pub fn conf(&self) -> PathBuf {
        self.0.folder.path().join("slurm.conf")
    }

    /// One of Slurm's programs, and what it prints.
    pub fn call(&self, line: &str) -> String {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        let output = command.args(words).env("SLURM_CONF", self.conf()).output().unwrap();
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
    }

    /// Jobs in its queue.
    pub fn jobs(&self) -> usize {
        self.call("squeue --noheader --array").lines().count()
    }
}

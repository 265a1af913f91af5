//! A real Slurm of four nodes on this machine, brought up for a test.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cluster that ends with this.
pub struct Cluster {
    /// Its configuration, logs and process ids.
    pub folder: tempfile::TempDir,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runner/slurm").join(name)
}

impl Cluster {
    /// `None` where there is no Slurm, or nobody may start it.
    pub fn up() -> Option<Self> {
        let there = |program: &str| {
            let folders = std::env::var("PATH").unwrap_or_default();
            folders.split(':').any(|folder| Path::new(folder).join(program).exists())
        };
        let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
        if !root || !["slurmctld", "slurmd", "munged", "sbatch"].iter().all(|p| there(p)) {
            // Written past the test's own captured output: nobody should believe that it ran.
            let text = "\nSKIPPED: the Slurm test needs root, slurm-wlm and munge\n";
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let sockets: Vec<TcpListener> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<String> = sockets.iter().map(|s| s.local_addr().unwrap().port().to_string()).collect();
        drop(sockets);
        let log = folder.path().join("up.log");
        let file = std::fs::File::create(&log).unwrap();
        // Daemons keep what they inherit; a pipe would never end.
        let mut up = Command::new(script("up"));
        up.arg(folder.path()).args(&ports).stdout(file.try_clone().unwrap()).stderr(file);
        let cluster = Self { folder };
        assert!(up.status().unwrap().success(), "{}", std::fs::read_to_string(log).unwrap());
        Some(cluster)
    }

    /// Its configuration, which `SLURM_CONF` names.
    pub fn conf(&self) -> PathBuf {
        self.folder.path().join("slurm.conf")
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

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new(script("down")).arg(self.folder.path()).status();
    }
}

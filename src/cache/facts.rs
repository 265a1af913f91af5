//! What is known of the place where something ran: the machine, and the commit of the study's folder.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Its name.
    pub host: String,
    /// Its processor.
    pub processor: String,
    /// Its CPUs.
    pub cpus: u64,
    /// Its memory, bytes.
    pub memory: u64,
    /// Its GPUs, by the names that their driver gives them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// Version of the GPUs' driver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// The kernel and its version.
    pub kernel: String,
}

/// The state of the study's folder in git.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// `None` outside of git.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Whether files of git's differ from it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub changed: bool,
}

/// Both, as they are when they are first asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    pub machine: Machine,
    #[serde(flatten)]
    pub commit: Commit,
}

impl Facts {
    /// Of this machine and the folder of a study.
    pub fn look(root: &Path) -> Self {
        Self { machine: Machine::here(), commit: Commit::of(root) }
    }
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).ok()?;
            let line = text.lines().find(|l| l.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_string())
        };
        let whole = |file: &str| fs::read_to_string(file).map(|t| t.trim().to_string()).unwrap_or_default();
        let kib = field("/proc/meminfo", "MemTotal").and_then(|m| m.split(' ').next()?.parse::<u64>().ok());
        let devices = fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
        let mut devices: Vec<_> = devices.map(|gpu| gpu.path()).collect();
        // By their places on the bus, as the driver counts them.
        devices.sort();
        let name = |gpu: &std::path::PathBuf| {
            let text = fs::read_to_string(gpu.join("information")).ok()?;
            text.lines().find_map(|l| l.strip_prefix("Model:")).map(|m| m.trim().to_string())
        };
        let version = fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
        let number = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
        Self {
            host: whole("/proc/sys/kernel/hostname"),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            memory: kib.map_or(0, |kib| kib * 1024),
            gpus: devices.iter().filter_map(name).collect(),
            driver: version.split_whitespace().find(number).unwrap_or_default().into(),
            kernel: format!("{} {}", whole("/proc/sys/kernel/ostype"), whole("/proc/sys/kernel/osrelease")),
        }
    }
}

impl Commit {
    /// Of the folder of a study. Nothing is written there, not even what git would like to remember.
    pub fn of(root: &Path) -> Self {
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.args(["--no-optional-locks", "-C"]).arg(root).args(arguments);
            let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
        };
        let commit = git(&["rev-parse", "HEAD"]);
        let changed = commit.is_some()
            && git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
        Self { commit, changed }
    }
}

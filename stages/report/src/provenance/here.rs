//! What the report knows of the place it is written at: the day, the machine, libtorch, the working folder's commit.
//!
//! The only part of a report that its inputs do not decide.

use super::ran::{date, memory};
use crate::document::{Table, code};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// Facts by name, in the order in which they are shown.
#[derive(Debug)]
pub struct Here(Vec<(&'static str, String)>);

impl Here {
    /// Looks around. Before anything else is asked of libtorch, which then looks for its devices.
    pub fn look() -> Self {
        let doctor = torch::device::doctor();
        let said = |name: &str| {
            let line = doctor.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
            line.map(|l| l.trim().to_string()).unwrap_or_default()
        };
        let libtorch = said("libtorch").split(' ').next().unwrap_or_default().to_string();
        let threads = said("threads").split(' ').next().unwrap_or_default().to_string();
        let facts = [
            ("day (UTC)", today()),
            ("program", format!("report {}", env!("CARGO_PKG_VERSION"))),
            ("machine", machine()),
            ("devices", devices(&said("devices"))),
            ("threads", threads),
            ("libtorch", libtorch),
            ("commit", commit().unwrap_or_default()),
        ];
        Self(facts.into_iter().filter(|f| !f.1.is_empty()).collect())
    }

    /// The facts as a table.
    pub fn table(&self) -> Table {
        let mut table = Table::new("Where this report was written.", &["Report", "Value"]);
        self.0.iter().for_each(|(name, value)| table.row([(*name).into(), value.clone()]));
        table
    }
}

/// The day; `SOURCE_DATE_EPOCH` is believed, as by every program whose output is to be made again.
fn today() -> String {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    date(given.unwrap_or_else(now), "%F")
}

fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find(|l| l.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|h| h.trim().to_string());
    let cpus = std::thread::available_parallelism().ok().map(|n| format!("{n} CPUs"));
    let kilobytes = field("/proc/meminfo", "MemTotal").and_then(|m| m.split(' ').next()?.parse::<u64>().ok());
    let words = [host, field("/proc/cpuinfo", "model name"), cpus, kilobytes.map(|k| memory(k * 1024))];
    words.into_iter().flatten().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The devices of libtorch, its GPUs with the names that the driver gives them.
fn devices(known: &str) -> String {
    let names = fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten().filter_map(|gpu| {
        let text = fs::read_to_string(gpu.path().join("information")).ok()?;
        text.lines().find_map(|l| l.strip_prefix("Model:")).map(|m| m.trim().to_string())
    });
    let names: Vec<String> = names.collect();
    if names.is_empty() || !known.contains("cuda") {
        known.into()
    } else {
        format!("{known} ({})", names.join(", "))
    }
}

/// The commit of the working folder, and whether files there differ from it; `None` outside of git.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
        let output = output.ok().filter(|o| o.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
    let changed = if changed { ", with changes that are not in it" } else { "" };
    Some(format!("{}{changed}", code(commit.trim())))
}

/// The folder of this program as a shell on this machine finds it: relative where it lies under the working folder.
pub fn programs() -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    let inside =
        std::env::current_dir().ok().and_then(|here| Some(folder.strip_prefix(here).ok()?.to_path_buf()));
    let folder: &Path = inside.as_deref().unwrap_or(folder);
    Some(folder.to_str()?.to_string())
}

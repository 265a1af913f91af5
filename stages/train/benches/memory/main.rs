//! The memory that checkpoints take beside what a training or a network holds anyway, ours and the peers'.
//!
//!     CHECKPOINT_PYTHON=python3 cargo bench -p train --bench memory -- --sizes s,b
//!
//! `CHECKPOINT_PYTHON` names a Python with torch and safetensors; what it lacks is said to be absent. Every measurement is a
//! process of its own: its peak while it writes or reads, less what it holds before or after. Pages of files that are mapped
//! count.

mod ours;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use stage::bad_input;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

stage::arguments! {
    /// Measure the memory of writing and reading checkpoints.
    pub struct Args: "memory" {
        /// Sizes: s, b, l, xl (256 pixels, patch 2, 1000 classes). Of l and xl, whose training may not fit, the moments and the
        /// average are the weights' own memory, and going on is not measured.
        tuning sizes: Vec<String> = ["s", "b", "xl"].map(String::from).to_vec();
        /// Threads of one operation.
        tuning threads: usize = 1, in 1..;
        /// Where files are written; they are removed.
        tuning folder: Option<PathBuf>;
        /// Only measure one part of ours, `write:s`, on the file in --folder; how the bench calls itself.
        tuning part: Option<String>;
    }
}

/// The most that ours may take beside it, bytes.
const ALLOWED: f64 = 64e6;

/// What one process measured, in bytes and seconds.
#[derive(Serialize, Deserialize)]
pub struct Measured {
    /// What it holds anyway: before writing, after reading.
    pub held: f64,
    /// Its peak meanwhile.
    pub peak: f64,
    /// How long it took.
    pub seconds: f64,
}

fn main() -> ExitCode {
    stage::bench(run)
}

fn run(args: &Args) -> Result<()> {
    if let (Some(part), Some(folder)) = (&args.part, &args.folder) {
        let Some((what, size)) = part.split_once(':') else { bad_input!("--part {part}: wanted write:s") };
        println!("{}", serde_json::to_string(&ours::measure(args, what, size, &file(folder))?)?);
        return Ok(());
    }
    let folder = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let folder = folder.path();
    println!("size part     who                 file GB  seconds   held MB  on top MB");
    for size in &args.sizes {
        let parts: &[&str] =
            if ours::fits(size)? { &["write", "sample", "go on"] } else { &["write", "sample"] };
        for part in parts {
            let measured = ours_call(args, part, size, folder)?;
            row(size, part, "ours", folder, &measured);
            if measured.peak - measured.held > ALLOWED {
                println!("{size:<4} {part:<8} ours takes more than {:.0} MB", ALLOWED / 1e6);
            }
        }
        for (part, peer) in [
            ("write", "torch.save"),
            ("write", "safetensors"),
            ("sample", "torch.load"),
            ("sample", "safetensors"),
        ] {
            match peer_call(args, part, peer, folder) {
                Ok(measured) => row(size, part, peer, folder, &measured),
                Err(e) => println!("{size:<4} {part:<8} {peer:<18} absent: {e:#}"),
            }
        }
        std::fs::remove_file(file(folder)).context("removing the file")?;
    }
    Ok(())
}

fn file(folder: &Path) -> PathBuf {
    folder.join("step-00000000.safetensors")
}

fn row(size: &str, part: &str, who: &str, folder: &Path, measured: &Measured) {
    let bytes = std::fs::metadata(file(folder)).map_or(0, |there| there.len());
    println!(
        "{size:<4} {part:<8} {who:<18} {:>8.2} {:>8.2} {:>9.0} {:>10.1}",
        bytes as f64 / 1e9,
        measured.seconds,
        measured.held / 1e6,
        (measured.peak - measured.held) / 1e6
    );
}

fn ours_call(args: &Args, part: &str, size: &str, folder: &Path) -> Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--part", &format!("{part}:{size}"), "--threads", &args.threads.to_string()]);
    measured(command.arg("--folder").arg(folder))
}

fn peer_call(args: &Args, part: &str, peer: &str, folder: &Path) -> Result<Measured> {
    let python = std::env::var_os("CHECKPOINT_PYTHON").context("set CHECKPOINT_PYTHON")?;
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/memory/peer.py")).args([part, peer]);
    measured(command.arg(file(folder)).arg(args.threads.to_string()))
}

/// Runs a process that prints one line of JSON at its end.
fn measured(command: &mut Command) -> Result<Measured> {
    let line = measure::last_line(command).context("measuring")?;
    serde_json::from_str(&line).context("reading what was measured")
}

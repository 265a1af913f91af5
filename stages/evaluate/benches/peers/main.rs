//! Times the network, the Fréchet distance and precision and recall, ours and the peers' in turn, with peak memory.
//!
//!     EVALUATE_PYTHON=python3 cargo bench -p evaluate --bench peers -- --parts frechet,manifold
//!
//! `EVALUATE_PYTHON` names a Python with torch, scipy and pytorch-fid; what it lacks is said to be absent. Every measurement is
//! a process of its own, on the same numbers and as many threads; times are medians.

mod ours;

use anyhow::{Context, Result};
use serde_json::Value as Json;
use stage::bad_input;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

stage::arguments! {
    /// Time scores and what they are made of, beside the peers.
    pub struct Args: "peers" {
        /// What to time: inception, frechet, manifold.
        tuning parts: Vec<String> = vec!["inception".to_string(), "frechet".to_string(), "manifold".to_string()];
        /// Threads of one operation, ours and the peer's.
        tuning threads: usize = 2, in 1..;
        /// Repetitions, of which the median counts; the peer of `frechet`, which takes most of a minute, runs once.
        tuning repetitions: usize = 3, in 1..;
        /// Pictures of 256 x 256 for `inception`.
        tuning pictures: usize = 32, in 1..;
        /// Points in each of the two sets of `manifold`.
        tuning points: usize = 10_000, in 4..;
        /// Width of the features.
        tuning width: usize = 2048, in 1..;
        /// Only measure the one part of ours, on the numbers in this folder; how the bench calls itself.
        tuning ours: Option<PathBuf>;
    }
}

/// What one process measured.
pub struct Measured {
    /// Median of the repetitions, seconds.
    pub seconds: f64,
    /// Greatest memory of the process, bytes.
    pub peak: f64,
    /// The result, to be compared.
    pub value: Json,
}

/// A part, who the peer is, what it was to be, and how many repetitions the peer has at most.
const PARTS: [(&str, &str, f64, usize); 3] = [
    ("inception", "pytorch-fid", 1.2, usize::MAX),
    ("frechet", "scipy sqrtm", 8.0, 1),
    ("manifold", "torch f32", 1.4, usize::MAX),
];

fn main() -> ExitCode {
    stage::bench(run)
}

fn run(args: &Args) -> Result<()> {
    if let Some(folder) = &args.ours {
        let measured = ours::measure(args, folder)?;
        let json =
            serde_json::json!({"seconds": measured.seconds, "peak": measured.peak, "value": measured.value});
        println!("{json}");
        return Ok(());
    }
    let parts: Vec<_> = PARTS.into_iter().filter(|p| args.parts.iter().any(|name| name == p.0)).collect();
    if parts.len() != args.parts.len() {
        bad_input!("--parts {}: wanted some of inception, frechet, manifold", args.parts.join(","))
    }
    let folder = tempfile::tempdir()?;
    print!("{}", torch::device::doctor());
    println!("\npart        who            seconds   peak GB   result");
    for (part, peer, wanted, most) in parts {
        let python = std::env::var_os("EVALUATE_PYTHON");
        ours::prepare(args, part, folder.path())?;
        if part == "inception" {
            match &python {
                Some(python) => drop(peer_call(python, "weights", folder.path(), args, 1)?),
                None => {
                    println!("{part:<11} absent: its weights are made by the peer; set EVALUATE_PYTHON");
                    continue;
                }
            }
        }
        let kinds: &[&str] = if part == "manifold" { &["adm", "exact"] } else { &["ours"] };
        let mut all = Vec::new();
        for kind in kinds {
            let ours = ours_call(args, part, kind, folder.path())?;
            print_row(part, kind, &ours);
            all.push((kind, ours));
        }
        let theirs = match &python {
            None => {
                println!("{part:<11} {peer:<12} absent: set EVALUATE_PYTHON");
                continue;
            }
            Some(python) => match peer_call(python, part, folder.path(), args, args.repetitions.min(most)) {
                Ok(theirs) => theirs,
                Err(e) => {
                    println!("{part:<11} {peer:<12} absent: {e:#}");
                    continue;
                }
            },
        };
        print_row(part, peer, &theirs);
        for (kind, ours) in &all {
            let ratio = theirs.seconds / ours.seconds;
            println!("{part:<11} {peer} / {kind}: {ratio:.2} x in time (wanted {wanted} x)");
        }
        if part == "inception" {
            let rate = args.pictures as f64 / theirs.seconds;
            let ours = args.pictures as f64 / all[0].1.seconds;
            println!("{part:<11} {ours:.2} images/s, {peer} {rate:.2}");
        }
    }
    Ok(())
}

fn print_row(part: &str, who: &str, measured: &Measured) {
    println!(
        "{part:<11} {who:<12} {:>9.3} {:>9.3}   {}",
        measured.seconds,
        measured.peak / 1e9,
        measured.value
    );
}

fn ours_call(args: &Args, part: &str, kind: &str, folder: &Path) -> Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--parts", &format!("{part},{kind}")]);
    command.arg("--ours").arg(folder);
    command.args(["--threads", &args.threads.to_string(), "--repetitions", &args.repetitions.to_string()]);
    measured(&mut command)
}

fn peer_call(
    python: &std::ffi::OsStr,
    part: &str,
    folder: &Path,
    args: &Args,
    repetitions: usize,
) -> Result<Measured> {
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/peer.py")).arg(part).arg(folder);
    command.args([args.threads.to_string(), repetitions.to_string()]);
    measured(&mut command)
}

/// Runs a process that prints one line of JSON at its end.
fn measured(command: &mut Command) -> Result<Measured> {
    let line = measure::last_line(command).context("measuring")?;
    let json: Json = serde_json::from_str(&line).context("reading what was measured")?;
    let number = |key: &str| json[key].as_f64().unwrap_or(0.0);
    Ok(Measured { seconds: number("seconds"), peak: number("peak"), value: json["value"].clone() })
}

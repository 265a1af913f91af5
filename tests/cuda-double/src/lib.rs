//! A CUDA device made of host memory: the programs take it for a GPU, and what they do on one is tested where there is none.
//!
//! The double is a `libtorch_cuda.so` of this crate's own (`double/`). Its device computes with the CPU's operators, over memory
//! that is filled with no numbers until it is written; so results are those of a GPU with the CPU's roundings. Beyond that it is
//! as strict as the real one, where a mistake would only show on a GPU:
//!
//! - tensors of the host and of the device do not mix;
//! - a copy to pinned memory arrives when the host has waited for it, and not before;
//! - a graph is recorded from what its stream is given, by whichever thread, without being done; waiting for the device,
//!   memory of the host's that is not pinned, and work on the default stream break the recording; a graph whose memory
//!   is gone is not replayed;
//! - NCCL sums over the processes of one machine;
//! - kernels that are compiled at run time are compiled by the host's C++ compiler, from the same source. The threads of a block
//!   run in turn up to each place where they wait for each other, and must all wait at the same. `CUDA_DOUBLE_KERNELS` set to
//!   `refused` makes their compilation fail, set to `wrong` their results. `CUDA_DOUBLE_GRAPHS` set to `refused` makes recording
//!   fail, as an operator does that the host waits for.
//!
//! It counts what the host waits for ([`Lent::report`]). What it cannot show: speed, CUDA's own kernels and their roundings,
//! work of two streams in another order than it was given, memory that a stream uses again too early.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder to load libtorch from; `None` where there were no headers of CUDA's to build against.
pub fn folder() -> Option<&'static Path> {
    let folder = env!("CUDA_DOUBLE");
    (!folder.is_empty()).then(|| Path::new(folder))
}

/// A command that sees GPUs.
pub struct Lent {
    report: PathBuf,
}

/// Lets a program of this workspace see this many GPUs; what it does with them is written to `report` at its end. `None`, and a
/// word to whoever runs the test, where there is no double.
pub fn lend(command: &mut Command, gpus: usize, report: &Path) -> Option<Lent> {
    let Some(folder) = folder() else {
        eprintln!(
            "left out: the double of CUDA was not built, for there are no headers of CUDA's; run ci/libtorch"
        );
        return None;
    };
    command
        .env("LD_LIBRARY_PATH", folder)
        .env("LD_PRELOAD", folder.join("libcuda.so.1"))
        .env("CUDA_DOUBLE_GPUS", gpus.to_string())
        .env("CUDA_DOUBLE_REPORT", report);
    Some(Lent { report: report.to_path_buf() })
}

impl Lent {
    /// How often the program did something that matters on a GPU: `wait …` (the host waited), `upload`, `download`, `graphs`
    /// (recorded), `replays`, `launches` (of kernels of one's own), `sums` (by NCCL).
    ///
    /// # Panics
    /// Where the program has not ended, or had no GPU.
    pub fn report(&self) -> BTreeMap<String, i64> {
        let text = std::fs::read_to_string(&self.report)
            .unwrap_or_else(|e| panic!("{}: {e}; the program had no GPU", self.report.display()));
        let line =
            |line: &str| Some((line.split('\t').next()?.to_string(), line.split('\t').nth(1)?.parse().ok()?));
        text.lines().filter_map(line).collect()
    }
}

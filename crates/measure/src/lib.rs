//! What benches and fuzz targets measure of a process, and how they sum it up.

mod counted;

pub use counted::{Counted, bounded};

use std::io::{Error, Result};
use std::process::Command;

/// The middle of some numbers, or the mean of the middle two; NaN of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n => (values[(n - 1) / 2] + values[n / 2]) / 2.0,
    }
}

/// Runs a process that measures itself, and gives the last line that it prints. Its threads do not spin while they wait: that
/// would time the neighbours.
///
/// # Errors
/// When it cannot be started, or fails; then with the last line of its errors.
pub fn last_line(command: &mut Command) -> Result<String> {
    let output = command.env("OMP_WAIT_POLICY", "PASSIVE").output()?;
    let last = |text: &[u8]| String::from_utf8_lossy(text).lines().last().map(String::from);
    match output.status.success() {
        true => Ok(last(&output.stdout).unwrap_or_default()),
        false => Err(Error::other(last(&output.stderr).unwrap_or_else(|| "it failed without a word".into()))),
    }
}

/// The most memory that this process has had at once, mapped files included, in bytes.
///
/// # Errors
/// Where the kernel does not say.
pub fn peak_memory() -> Result<u64> {
    peak_memory_of("self")
}

/// That of another process, by its number.
///
/// # Errors
/// When it has ended, and where the kernel does not say.
pub fn peak_memory_of(process: &str) -> Result<u64> {
    account(process, "VmHWM")
}

/// The memory that this process has now, mapped files included, in bytes.
///
/// # Errors
/// Where the kernel does not say.
pub fn held_memory() -> Result<u64> {
    account("self", "VmRSS")
}

/// Lets the peak of this process begin anew, at what it has now.
///
/// # Errors
/// Where the kernel does not do that.
pub fn forget_peak() -> Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
}

/// An entry of the kernel's account of a process.
fn account(process: &str, entry: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let rest = status.lines().find_map(|line| line.strip_prefix(entry)?.strip_prefix(':'));
    let kilobytes =
        rest.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    kilobytes.map(|n| n * 1024).ok_or_else(|| Error::other(format!("its status has no {entry}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn memory_that_was_written_is_counted() {
        let before = peak_memory().unwrap();
        let written = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = peak_memory().unwrap();
        assert!(after >= before + (60 << 20), "{before} and {after} with {} bytes", written.len());
    }
}

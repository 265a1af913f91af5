//! The variables that a program of a study gets from the caller without asking for them.

use std::ffi::OsString;

/// Where things are, how to speak, how to use the hardware. Everything else a stage gets only through `env:` or
/// `pass-env:`.
const PASSED: [&str; 18] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TERM",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "RAYON_NUM_THREADS",
    "http_proxy",
    "https_proxy",
];
/// The same, by the beginning of their names.
const PASSED_PREFIXES: [&str; 8] = ["LC_", "CUDA_", "NVIDIA_", "NCCL_", "OMP_", "MKL_", "LIBTORCH", "SLURM_"];

/// Those of the caller's variables that every program gets, and those that are asked for by name.
pub fn passed(asked: &[String]) -> Vec<(OsString, OsString)> {
    let passed = |name: &str| {
        PASSED.contains(&name)
            || PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || asked.iter().any(|asked| asked == name)
    };
    std::env::vars_os().filter(|(name, _)| passed(&name.to_string_lossy())).collect()
}

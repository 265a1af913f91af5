//! Digests of files.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    sha256_while(path, &|| Ok(()))
}

/// The same, as long as `check` lets it go on.
///
/// # Errors
/// When it cannot be read; those of `check`.
pub(crate) fn sha256_while(path: &Path, check: &dyn Fn() -> Result<()>) -> Result<String> {
    let context = || format!("reading {}", path.display());
    let mut file = std::fs::File::open(path).with_context(context)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        check()?;
        match file.read(&mut buffer).with_context(context)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

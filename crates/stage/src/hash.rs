//! Digests of files.

use crate::BadInputExt;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The BLAKE3 digest of a file, in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn digest(path: &Path) -> Result<String> {
    let context = || format!("hashing {}", path.display());
    let mut file = File::open(path).with_context(context)?;
    // Read, not mapped: a mapped file counts as this process's memory, as long as all of it.
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; 4 << 20]);
    loop {
        match file.read(&mut buffer).with_context(context)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            n => hasher.update_rayon(&buffer[..n]),
        };
    }
}

/// The SHA-256 of a file, by which others name it, in hexadecimal.
///
/// # Errors
/// Bad input when it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    sha256_while(path, &|| Ok(()))
}

/// The same, as long as `check` lets it go on; a file may have gigabytes.
///
/// # Errors
/// Bad input when it cannot be read; those of `check`.
pub fn sha256_while(path: &Path, check: &dyn Fn() -> Result<()>) -> Result<String> {
    let context = || format!("reading {}", path.display());
    let mut file = File::open(path).bad_input(context)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        check()?;
        match file.read(&mut buffer).bad_input(context)? {
            0 => return Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_three_letters() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let found = [digest(file.path()).unwrap(), sha256(file.path()).unwrap()];
        assert_eq!(
            found,
            [
                "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
            ]
        );
        assert_eq!(crate::exit_code(&sha256(Path::new("absent")).unwrap_err()), 2);
    }
}

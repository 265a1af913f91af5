//! Lines for people on standard error, which may be gone: a closed terminal, a `tee` that ended first, a full disk.

use std::fmt::Display;
use std::io::Write;

/// Writes a line. What nobody can be told is no reason to stop, let alone to panic.
pub fn line(text: impl Display) {
    write(&format!("{text}\n"));
}

/// Writes a text, in one piece, so that lines of several threads do not mix.
pub fn write(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

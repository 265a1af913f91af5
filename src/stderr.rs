//! Lines for people on standard error, which may be gone: a closed terminal, a `tee` that ended first, a full disk.

use crate::text::safe;
use std::fmt::Display;
use std::io::Write;

/// Writes a line, as people may read it. What nobody can be told is no reason to stop, let alone to panic.
pub fn line(text: impl Display) {
    write(&format!("{}\n", safe(&text.to_string())));
}

/// Writes a text, in one piece, so that lines of several threads do not mix.
pub fn write(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

//! What goes to standard output.

use crate::error::{Error, Result};
use crate::text::safe;
use serde::Serialize;
use std::io::Write;

/// Prints text for people or programs, as they may read it. A reader that has gone away is no failure.
pub fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(safe(text).as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Output(e)),
        _ => Ok(()),
    }
}

/// Prints a value for programs.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value)?;
    print(&(json + "\n"))
}

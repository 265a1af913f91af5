//! What goes to standard output.

use crate::error::{Error, Result};
use crate::screen::colour;
use crate::text::safe;
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// Prints text for people or programs, as they may read it. A reader that has gone away is no failure.
pub fn print(text: &str) -> Result<()> {
    write(&safe(text))
}

/// Prints a table whose second column has states, for people.
pub fn print_states(rows: &[Vec<String>]) -> Result<()> {
    write(&colour::states(rows, colour::wanted(std::io::stdout().is_terminal())))
}

/// Prints a value for programs.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value)?;
    print(&(json + "\n"))
}

fn write(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Output(e)),
        _ => Ok(()),
    }
}

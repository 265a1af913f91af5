//! What goes to standard output.

use crate::error::{Error, Result};
use crate::screen::colour;
use crate::stderr;
use crate::text::safe;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use study::graph::Graph;

/// Prints text for people or programs, as they may read it. A reader that has gone away is no failure.
pub fn print(text: &str) -> Result<()> {
    write(&safe(text))
}

/// Prints an address of our own with what lets a person in, which `print` would hide.
pub fn print_address(address: &str) -> Result<()> {
    write(&format!("{address}\n"))
}

/// Prints a table whose second column has states, for people.
pub fn print_states(rows: &[Vec<String>]) -> Result<()> {
    write(&colour::states(rows, colour::wanted(std::io::stdout().is_terminal())))
}

/// Says which stages are not part of this, as they read every variant and not every one is selected.
pub fn tell_left_out(graph: &Graph) {
    if let [first, rest @ ..] = graph.left_out.as_slice() {
        let (names, verb) =
            if rest.is_empty() { (first.clone(), "reads") } else { (graph.left_out.join(", "), "read") };
        stderr::line(format_args!("left out: {names}, which {verb} every variant; --variant '*' has all"));
    }
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

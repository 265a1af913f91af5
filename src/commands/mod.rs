//! One file for each command.

mod accept;
mod check;
mod diff;
mod export;
mod gc;
mod graph;
mod init;
mod lock;
mod log;
mod plan;
mod pull;
mod push;
mod run;
mod verify;
mod watch;
mod why;

use crate::cli::{Cli, Command};
use crate::error::{Error, Result};
use clap::CommandFactory;
use serde::Serialize;
use std::io::Write;

/// Does what the command line says.
pub fn call(cli: &Cli) -> Result<()> {
    let global = &cli.global;
    match &cli.command {
        Command::Run { stages, yes, locked } => run::run(global, stages, *yes, *locked),
        Command::Accept { stages } => accept::accept(global, stages),
        Command::Plan { stages } => plan::plan(global, stages),
        Command::Push { stages } => push::push(global, stages),
        Command::Pull { stages } => pull::pull(global, stages),
        Command::Watch { stages, once } => watch::watch(global, stages, *once),
        Command::Export { what, archive } => export::export(global, what, archive),
        Command::Import { archive } => export::import(global, archive),
        Command::Why { stage } => why::why(global, stage),
        Command::Diff { a, b } => diff::diff(global, a, b),
        Command::Graph { format } => graph::graph(global, *format),
        Command::Log { stage } => log::log(global, stage),
        Command::Check => check::check(global),
        Command::Gc(limits) => gc::gc(global, limits),
        Command::Verify => verify::verify(global),
        Command::Lock => lock::lock(global),
        Command::Init => init::init(global),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "pipeline", &mut text);
            print(&String::from_utf8_lossy(&text))
        }
        Command::Schema => print_json(&study::schema::schema()),
        Command::Man => {
            let mut text = Vec::new();
            let rendered = clap_mangen::Man::new(Cli::command()).render(&mut text);
            rendered.map_err(|e| Error::Io { what: "rendering the manual page".into(), source: e })?;
            print(&String::from_utf8_lossy(&text))
        }
    }
}

/// Prints text for people or programs. A reader that has gone away is no failure.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Io { what: "writing to standard output".into(), source: e })
        }
        _ => Ok(()),
    }
}

fn print_json(value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value)
        .map_err(|e| Error::Io { what: "encoding JSON".into(), source: e.into() })?;
    print(&(json + "\n"))
}

/// Columns, each as wide as its widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (bytes.max(1).ilog2() / 10).min(4);
    match power {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / f64::from(power * 10).exp2(), units[power as usize]),
    }
}

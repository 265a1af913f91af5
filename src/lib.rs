//! A runner for a DAG of programs whose outputs are cached by content hash.
//!
//! It knows nothing of what the programs do. A study file names them, with their inputs, parameters and outputs;
//! the runner finds out which have to run, runs them, and keeps what they give.

#![warn(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "these panic when nobody reads any more; `stderr::line` and `commands::output::print` do not"
)]

mod action;
mod cache;
mod cli;
mod commands;
mod engine;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod run;
mod screen;
mod session;
mod stderr;
mod text;

use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// The whole program: a command line in, an exit code out.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    if arguments.get(1).is_some_and(|word| word == engine::supervise::WORD) {
        return ExitCode::from(engine::supervise::supervise(&arguments[2..]));
    }
    if arguments.get(1).is_some_and(|word| word == engine::ranks::WORD) {
        return ExitCode::from(engine::ranks::main(&arguments[2..]));
    }
    if arguments.get(1).is_some_and(|word| word == engine::slurm::job::WORD) {
        return ExitCode::from(engine::slurm::job::main(&arguments[2..]));
    }
    let cli = match cli::Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and mistakes alike; a closed pipe is no failure.
            let _ = e.print();
            return ExitCode::from(e.exit_code() as u8);
        }
    };
    match commands::call(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            stderr::line(format_args!("error: {e}"));
            ExitCode::from(e.exit_code())
        }
    }
}

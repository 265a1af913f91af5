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
mod name_map;
mod run;
mod screen;
mod session;
mod stderr;
mod table;
mod text;
mod ui;

use std::ffi::OsString;
use std::process::ExitCode;

/// Prints help, or what is wrong with a command line; a closed pipe is no failure.
fn usage(e: &clap::Error) {
    let plain = e.render().to_string();
    match text::safe(&plain) {
        safe if safe == plain => drop(e.print()),
        // Without colours, whose sequences the text itself may not have.
        safe => stderr::write(&safe),
    }
}

/// Finds the study, and says which one where it is not that of this folder.
fn find_study(cli: &mut cli::Cli) -> error::Result<()> {
    if cli.command.reads_study()
        && let Some(file) = cli.global.find()?
    {
        stderr::line(format_args!("the study is {}", file.display()));
    }
    Ok(())
}

/// The whole program: a command line in, an exit code out.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    if arguments.get(1).is_some_and(|word| word == engine::supervise::WORD) {
        return ExitCode::from(engine::supervise::supervise(&arguments[2..]));
    }
    if arguments.get(1).is_some_and(|word| word == engine::ranks::WORD) {
        return ExitCode::from(engine::ranks::main(&arguments[2..]));
    }
    if arguments.get(1).is_some_and(|word| word == engine::srun::WORD) {
        return ExitCode::from(engine::srun::main(&arguments[2..]));
    }
    if arguments.get(1).is_some_and(|word| word == engine::batch::job::WORD) {
        return ExitCode::from(engine::batch::job::main(&arguments[2..]));
    }
    if arguments.get(1).is_some_and(|word| word == engine::batch::SUBMIT) {
        return ExitCode::from(engine::batch::submit());
    }
    if arguments.get(1).is_some_and(|word| word == ui::PARQUET) {
        return ExitCode::from(ui::read_parquet(&arguments[2..]));
    }
    let mut cli = match cli::Cli::read(arguments) {
        Ok(cli) => cli,
        Err(e) => {
            let e = cli::explained(e);
            usage(&e);
            return ExitCode::from(e.exit_code() as u8);
        }
    };
    match find_study(&mut cli).and_then(|()| commands::call(&cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            stderr::line(format_args!("error: {}", text::safe_line(&e.to_string())));
            ExitCode::from(e.exit_code())
        }
    }
}

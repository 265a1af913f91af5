//! The program `sample`.

use std::process::ExitCode;

fn main() -> ExitCode {
    stage::main_with(&sample::QUESTIONS, sample::sample)
}

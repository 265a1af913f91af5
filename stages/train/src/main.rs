//! The program `train`.

use std::process::ExitCode;

fn main() -> ExitCode {
    stage::main_with(&train::QUESTIONS, train::train)
}

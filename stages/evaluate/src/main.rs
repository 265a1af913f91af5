//! The program; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    stage::main_with(&evaluate::QUESTIONS, evaluate::evaluate)
}

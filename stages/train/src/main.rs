//! The program `train`.

use std::process::ExitCode;

fn main() -> ExitCode {
    stage::main(train::train)
}

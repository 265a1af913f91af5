//! The program `sample`.

use std::process::ExitCode;

fn main() -> ExitCode {
    stage::main(sample::sample)
}

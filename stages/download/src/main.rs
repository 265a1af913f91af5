//! Fetch a dataset, check every picture, lay it out the same way.

use std::process::ExitCode;

fn main() -> ExitCode {
    stage::main_with(&download::QUESTIONS, download::download)
}

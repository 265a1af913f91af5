//! `report`: what a study found, as Markdown and one HTML file.
use std::process::ExitCode;

fn main() -> ExitCode {
    stage::main(report::report)
}

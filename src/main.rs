//! The runner's executable; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pipeline::main(std::env::args_os().collect())
}

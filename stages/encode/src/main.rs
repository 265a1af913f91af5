//! Encode pictures as VAE latents.

use std::process::ExitCode;

fn main() -> ExitCode {
    stage::main_with(&encode::QUESTIONS, encode::encode)
}
